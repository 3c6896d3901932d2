"""``mpcdp check``: whether a table fits a task, for its owner to see before a session."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mpcdp.data.inspection import TableReport, inspect_table
from mpcdp.errors import DataError
from mpcdp.task import load_task

__all__ = ["check"]


def check(
    task: Annotated[Path, typer.Argument(help="The task.toml that everybody agreed on.")],
    owner: Annotated[str, typer.Option(help="Whose table it is, as the task names it.")],
    table: Annotated[Path, typer.Option(help="The owner's CSV or Parquet table.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say how well a table fits a task, before a session; for its owner alone.

    Prints how many cells of every column fit the schema, how many numbers are at a bound or clipped to it (many of
    them: another unit than the schema's?), and the record count beside the declared one.

    For the owner's eyes alone: the figures are exact, no noise protects them. Exit code 0 only if the count is the
    declared one, every line has the right number of cells and no column is without a fitting cell.

    Example: mpcdp check task.toml --owner hospital-1 --table table.csv
    """
    agreed = load_task(task)
    declared = agreed.owner(owner).record_count
    report = inspect_table(table, agreed.schema_)
    problems = _problems(report, declared)
    if as_json:
        figures = {
            "owner": owner,
            "records": report.record_count,
            "declared_records": declared,
            "malformed_records": report.malformed_count,
            "fitting_cells": report.fitting_cells,
            "cells_at_bounds": report.cells_at_bounds,
            "ok": not problems,
        }
        typer.echo(json.dumps(figures, indent=2))
    else:
        typer.echo(_describe(report, declared))
    if problems:
        raise DataError(f"{owner}: table {table}: {'; '.join(problems)}")


def _problems(report: TableReport, declared: int) -> list[str]:
    """Say what has to be mended, and how."""
    problems = []
    if report.record_count != declared:
        problems.append(
            f"it has {report.record_count} records, but the task declares {declared} (every line below the header is a "
            "record, an empty one too): give the table that was declared or agree on a new task"
        )
    if report.malformed_count:
        problems.append(
            f"{report.malformed_count} lines have more or fewer cells than the header and would contribute nothing: "
            "mend them (a record is one line, and a cell with a comma stands in quotation marks)"
        )
    if report.unusable_columns:
        problems.append(
            f"no cell fits in {', '.join(map(repr, report.unusable_columns))}: compare with the entries in [schema]"
        )
    return problems


def _describe(report: TableReport, declared: int) -> str:
    """Lay the report out for people."""
    width = max(len(name) for name in report.fitting_cells)
    cells = [
        f"  {name:<{width}}  {count:>9}  {report.record_count - count:>9}  {report.cells_at_bounds.get(name, '-'):>9}"
        for name, count in report.fitting_cells.items()
    ]
    return "\n".join(
        [
            "For the owner's eyes alone: these figures are exact, no noise protects them.",
            f"records    {report.record_count} (declared: {declared})",
            f"malformed  {report.malformed_count}",
            f"cells {'':<{width}}       fit        not  at bounds",
            *cells,
            "what does not fit: a number becomes the middle of its bounds, a category none of them; without a label a",
            "record contributes nothing. At bounds: a number there, or clipped to it.",
        ]
    )
