"""``mpcdp task``: help with writing task files."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.task.json_schema import task_json_schema

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


@app.callback()
def task() -> None:
    """Help with writing task files."""


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option(help="Write here instead of standard output.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; it always is.")] = False,
) -> None:
    """Print the JSON Schema of task.toml, for editors that complete and check TOML files.

    Put ``#:schema task.schema.json`` into the first line of a task, and an editor with a TOML extension uses it.

    Example: mpcdp task schema --output task.schema.json
    """
    text = json.dumps(task_json_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
