"""``mpcdp network``: certificates and configs for trying a task on one machine."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.local_network import create_network, hosts_by_name, on_loopback
from mpcdp.task import load_task

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def network() -> None:
    """Certificates and configs of a network."""


@app.command()
def new(
    directory: Annotated[Path, typer.Argument(help="New or empty folder.")],
    task: Annotated[Path, typer.Option(help="The task.toml that everybody agreed on.")],
    port: Annotated[
        int | None,
        typer.Option(
            help="Give every process a host of its own, called by its name in the task, where servers listen at this "
            "port: for containers. All are on this machine's loopback address when left out."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Make an authority, certificates and a config for every process of a task, to try it out on one machine.

    Example: mpcdp network new net --task task.toml
    """
    create_network(directory, task, sites=on_loopback if port is None else hosts_by_name(port))
    if as_json:
        members = load_task(task).members()
        typer.echo(json.dumps({"directory": str(directory), "processes": {each.name: each.role for each in members}}))
    elif not quiet:
        made = load_task(task)
        owner, table = made.owners[0].name, "updates" if made.model.kind == "update" else "table.csv"
        typer.echo(f"Made {directory}. Put each owner's table where its config says ({directory}/{owner}/{table}),")
        typer.echo(f"then run them all on this machine: mpcdp run {directory}")
        typer.echo(f"or each where it belongs:          mpcdp run --config {directory}/NAME/ROLE.toml")
        typer.echo(f"All of them read {directory}/task.toml, a copy: correct the task there, before its first run.")
