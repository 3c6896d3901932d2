"""``mpcdp reproduce``: the paper's figures again, and what privacy costs beside other ways."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mpcdp.bench.machine import typed_command
from mpcdp.cli.progress import NoProgress, progress_console
from mpcdp.errors import MpcdpError
from mpcdp.reproduce.combined_report import write_report
from mpcdp.reproduce.deviations import explanations
from mpcdp.reproduce.experiment import Experiment, Stage
from mpcdp.reproduce.figures_report import DEVIATION_HEADER, deviation_cells
from mpcdp.reproduce.frontier_report import COST_HEADER, cost_rows, save_frontier
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.real import REAL_HEADER, disagreements, real_methods, run_for_real
from mpcdp.reproduce.results import Results
from mpcdp.reproduce.settings import FULL, QUICK, RunSettings

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)


class _Table(StrEnum):
    """A data set."""

    KDDCUP99 = "kddcup99"
    ADULT = "adult"
    CALIFORNIA_HOUSING = "california-housing"
    KDDCUP98 = "kddcup98"


_TABLES = [_Table.KDDCUP99, _Table.ADULT, _Table.CALIFORNIA_HOUSING]
_WIDTH = 120
"""The tables need this many columns; a narrower terminal wraps their lines."""

_DATA = Annotated[Path | None, typer.Option(help="Folder of the tables' files; scikit-learn's fetchers without it.")]
_OUTPUT = Annotated[Path, typer.Option(help="Folder for figures, results.json and report.html.")]
_QUICK = Annotated[bool, typer.Option("--quick", help="m = 1,000, three budgets, five runs.")]
_RUNS = Annotated[int | None, typer.Option(min=2, help="Runs of each point; 20, or 5 with --quick.")]
_JOBS = Annotated[int | None, typer.Option(min=1, help="Processes; one per core without it.")]
_SEED = Annotated[int, typer.Option(min=0, help="Of numpy's generators; ours have none.")]


@app.callback()
def reproduce() -> None:
    """The paper's figures again, and what privacy costs beside other ways. Public data only: it protects nothing."""


@app.command()
def figures(
    data: _DATA = None,
    quick: _QUICK = False,
    table: Annotated[list[_Table], typer.Option(help="Data set; may be repeated.")] = _TABLES,
    output: _OUTPUT = Path("mpcdp-figures"),
    runs: _RUNS = None,
    seed: _SEED = FULL.seed,
    jobs: _JOBS = None,
    quiet: NoProgress = False,
    real: Annotated[bool, typer.Option("--real", help="Also run sessions of real processes and compare.")] = False,
) -> None:
    """Reproduce Figures 1 and 2 and Table 1 of the paper, with its calibration and with valid ones.

    Example: mpcdp reproduce figures --data ~/tables --quick --table kddcup99
    """
    from mpcdp.reproduce.iterations import iteration_stages
    from mpcdp.reproduce.sweep import sweep_stages

    begin, console, working = time.monotonic(), Console(), progress_console(quiet=quiet)
    experiments = _load(table, data, _settings(quick, runs, seed), working)
    stages = [stage for each in experiments for stage in (*iteration_stages(each), *sweep_stages(each))]
    points = _work(stages, jobs, working)
    sessions = []
    if real:
        for each in experiments:
            for method in real_methods(regression=each.table.regression):
                with working.status(f"{each.table.title}: {method}, real processes"):
                    sessions += run_for_real(each, method)
    results = Results(
        command=typed_command(), seconds=time.monotonic() - begin, experiments=experiments, points=points, real=sessions
    )
    page = results.save(output)
    _print_deviations(results, console)
    _print_sessions(results, console)
    console.print(f"{page}: everything, with figures; {output / 'results.json'}: every number", soft_wrap=True)
    if failed := disagreements(sessions):
        raise MpcdpError(
            f"{len(failed)} of {len(sessions)} comparisons of real sessions with simulations disagree; see {page}"
        )


@app.command()
def frontier(
    data: _DATA = None,
    quick: _QUICK = False,
    table: Annotated[list[_Table], typer.Option(help="Data set; may be repeated.")] = _TABLES,
    output: _OUTPUT = Path("mpcdp-frontier"),
    runs: _RUNS = None,
    seed: _SEED = FULL.seed,
    jobs: _JOBS = None,
    quiet: NoProgress = False,
) -> None:
    """Draw accuracy over epsilon: ours, the paper's, noise of every owner's own, and central training on all records.

    diffprivlib runs in an environment of its own, which is made at the first use (about 300 MB from PyPI).

    Example: mpcdp reproduce frontier --data ~/tables --quick
    """
    from mpcdp.reproduce.central import left_out
    from mpcdp.reproduce.frontier import frontier_stages

    begin, console, working = time.monotonic(), Console(), progress_console(quiet=quiet)
    with working.status("libraries to compare with"):
        missing = left_out()
    for library, reason in missing.items():
        console.print(f"{library} is left out: {reason}")
    experiments = _load(table, data, _settings(quick, runs, seed), working)
    stages = [stage for each in experiments for stage in frontier_stages(each, left_out=missing)]
    points = _work(stages, jobs, working)
    seconds = time.monotonic() - begin
    save_frontier(experiments, points, output, command=typed_command(), seconds=seconds, left_out=missing)
    page = write_report([output], output / "report.html")
    errors = {each.table.name for each in experiments if each.table.regression}
    cost = [list(COST_HEADER), *cost_rows(points, errors=errors)]
    _print_table("What not pooling costs: how much worse many owners are than one pooled table", cost, console)
    console.print(f"{page}: everything, with figures; {output / 'results.json'}: every number", soft_wrap=True)


@app.command()
def report(
    source: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of figures and frontier, and files of mpcdp bench ... --json.", show_default=False
        ),
    ],
    html: Annotated[Path, typer.Option(help="The page.")] = Path("mpcdp-report.html"),
) -> None:
    """Put everything that was measured on one page that needs nothing else: figures, tables, versions, commands.

    Example: mpcdp reproduce report mpcdp-figures mpcdp-frontier noise.json rounds.json --html report.html
    """
    typer.echo(f"{write_report(source, html)}: everything on one page")


def _settings(quick: bool, runs: int | None, seed: int) -> RunSettings:
    chosen = replace(QUICK if quick else FULL, seed=seed)
    return chosen if runs is None else replace(chosen, runs=runs)


def _load(tables: Sequence[_Table], data: Path | None, settings: RunSettings, console: Console) -> list[Experiment]:
    from mpcdp.reproduce.tables import load_table

    experiments = []
    for name in dict.fromkeys(tables):
        with console.status(f"loading {name}"):
            experiments.append(Experiment(load_table(name, data), settings))
    return experiments


def _work(stages: Sequence[Stage], jobs: int | None, console: Console) -> list[Point]:
    """Do the work under progress bars: one for everything, and one for each stage under way."""
    from mpcdp.reproduce.work import StageNews, available_cores, do_stages

    with _progress(console) as progress:
        whole = progress.add_task("all", total=len(stages))
        bars: dict[int, TaskID] = {}

        def show(news: StageNews) -> None:
            title = stages[news.stage].title
            if news.stage not in bars:
                bars[news.stage] = progress.add_task(title, total=1.0)
            progress.advance(bars[news.stage], news.share)
            if news.seconds is not None:
                progress.remove_task(bars[news.stage])
                progress.advance(whole)
                if not console.is_terminal:
                    took = f"{news.seconds:.0f} s, {news.processor_seconds:.0f} s of processor time"
                    console.print(f"{title}: {took}", soft_wrap=True)

        return do_stages(stages, jobs=jobs or available_cores(), tell=show)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield progress


def _print_deviations(results: Results, console: Console) -> None:
    if found := results.deviations:
        rows = [deviation_cells(one) for one in found]
        _print_table("Deviations from the paper's figures, iteration 1,400", [list(DEVIATION_HEADER), *rows], console)
        for line in explanations(found):
            console.print(f"* {line}")


def _print_sessions(results: Results, console: Console) -> None:
    if results.real:
        rows = [run.cells() for run in results.real]
        _print_table("Real sessions beside simulations", [list(REAL_HEADER), *rows], console)


def _print_table(title: str, rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print rows of text under a header, which is the first of them."""
    console.width = max(console.width, _WIDTH)
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in rows[0]:
        table.add_column(name, no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)
