"""Bars of long work, with the time that is left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["NoProgress", "progress_bar", "progress_bars", "progress_console"]

NoProgress = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
"""The option of commands whose output is what they measure."""


def progress_console(*, quiet: bool) -> Console:
    """Return where progress is shown: standard error, or nowhere."""
    return Console(stderr=True, quiet=quiet)


def progress_bars(console: Console, *, quiet: bool) -> Progress:
    """Return bars that vanish when their context ends.

    Args:
        console: where they are shown, if it is a terminal.
        quiet: show nothing.
    """
    return Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet,
        transient=True,
    )


@contextmanager
def progress_bar(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Show one bar on standard error.

    Args:
        what: is counted.
        total: how many there are.
        quiet: show nothing.

    Yields:
        What moves the bar on by a number of steps.
    """
    with progress_bars(progress_console(quiet=quiet), quiet=quiet) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(bar, steps)
