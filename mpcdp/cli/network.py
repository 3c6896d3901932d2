"""``mpcdp network``: certificates and configs for trying a task on one machine."""

from pathlib import Path
from typing import Annotated

import typer

from mpcdp.local_network import create_network

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def network() -> None:
    """Certificates and configs of a network on one machine."""


@app.command()
def new(
    directory: Annotated[Path, typer.Argument(help="New or empty folder.")],
    task: Annotated[Path, typer.Option(help="The task.toml that everybody agreed on.")],
) -> None:
    """Make an authority, certificates and a config for every process of a task, all on this machine.

    Example: mpcdp network new net --task task.toml
    """
    create_network(directory, task)
    typer.echo(f"Made {directory}. Put each owner's table at {directory}/OWNER/table.csv, then start every process:")
    typer.echo(f"  python -m parties.ROLE --config {directory}/NAME/ROLE.toml")
