"""``mpcdp network``: certificates and configs for trying a task on one machine."""

from pathlib import Path
from typing import Annotated

import typer

from mpcdp.local_network import create_network, hosts_by_name, on_loopback

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def network() -> None:
    """Certificates and configs of a network on one machine."""


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
) -> None:
    """Make an authority, certificates and a config for every process of a task, to try it out on one machine.

    Example: mpcdp network new net --task task.toml
    """
    create_network(directory, task, sites=on_loopback if port is None else hosts_by_name(port))
    typer.echo(f"Made {directory}. Put each owner's table at {directory}/OWNER/table.csv, then start every process:")
    typer.echo(f"  python -m parties.ROLE --config {directory}/NAME/ROLE.toml")
