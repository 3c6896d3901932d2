"""``mpcdp simulate``: how good a task's model is, in one process and in the clear."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import typer

from mpcdp.cli.progress import NoProgress, progress_bar
from mpcdp.data.dataset import Dataset
from mpcdp.data.table import read_dataset
from mpcdp.errors import InputError
from mpcdp.learning.scores import quality, scores
from mpcdp.simulation import simulate as run_in_the_clear
from mpcdp.task import Task, load_task

__all__ = ["simulate"]


def simulate(
    task: Annotated[Path, typer.Argument(help="The task.toml to study.")],
    tables: Annotated[Path, typer.Option(help="Folder with a table named after each owner, such as hospital-1.csv.")],
    test: Annotated[Path, typer.Option(help="Table with labels that models are judged on.")],
    runs: Annotated[int, typer.Option(min=1, help="Runs, each with noise of its own.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: NoProgress = False,
) -> None:
    """Run a task's learning in the clear, again and again, on public data.

    In one process: same plan, same encoding, same noise, and no protection.

    For studies on data that may lie in one place. Choosing a task by what it gives on private records is not covered by
    any privacy guarantee. Prints accuracy, or R^2 for numbers, with and without the noise.

    Example: mpcdp simulate task.toml --tables tables --test test.csv --runs 20
    """
    agreed = load_task(task)
    datasets = {owner.name: _table(agreed, tables, owner.name) for owner in agreed.owners}
    judged = read_dataset(test, agreed.schema_)
    noised = []
    with progress_bar("runs", runs, quiet=quiet) as advance:
        for _ in range(runs):
            noised.append(_quality(agreed, datasets, judged, noise=True))
            advance(1)
    figures = {
        "measure": "R^2" if agreed.schema_.label.kind == "number" else "accuracy",
        "mean": mean(noised),
        "standard_deviation": stdev(noised) if runs > 1 else 0.0,
        "runs": runs,
        "without_noise": _quality(agreed, datasets, judged, noise=False),
        "protected": False,
    }
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    typer.echo(
        f"{figures['measure']} on {judged.record_count} records: {figures['mean']:.4f} +- "
        f"{figures['standard_deviation']:.4f} over {runs} runs; {figures['without_noise']:.4f} without noise"
    )
    typer.echo("A simulation in the clear: nothing here protected anybody.")


def _table(task: Task, folder: Path, owner: str) -> Dataset:
    for ending in (".csv", ".csv.gz", ".parquet"):
        if (path := folder / f"{owner}{ending}").exists():
            dataset = read_dataset(path, task.schema_)
            declared = task.owner(owner).record_count
            if dataset.record_count != declared:
                raise InputError(f"{path}: it has {dataset.record_count} records, the task declares {declared}")
            return dataset
    raise InputError(f"{folder}: there is no table {owner}.csv, {owner}.csv.gz or {owner}.parquet")


def _quality(task: Task, datasets: dict[str, Dataset], judged: Dataset, *, noise: bool) -> float:
    model, label = run_in_the_clear(task, datasets, noise=noise), task.schema_.label
    values = scores(model, judged.features, label=label, module=task.module())
    return quality(values, judged.labels, label=label)
