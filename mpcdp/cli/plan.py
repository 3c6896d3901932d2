"""``mpcdp plan``: what a task costs, before anybody runs it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.plan import make_plan
from mpcdp.task import load_task

__all__ = ["plan"]


def plan(
    task: Annotated[Path, typer.Argument(help="The task.toml that everybody agreed on.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print sensitivity, mechanism, noise and the exact (epsilon, delta) of a task.

    Example: mpcdp plan task.toml
    """
    made = make_plan(load_task(task))
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2))
    else:
        typer.echo(made.describe())
