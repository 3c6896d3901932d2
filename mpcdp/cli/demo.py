"""``mpcdp demo``: several organisations, each a process of its own, train one model on this machine."""

import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tomli_w
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from mpcdp.cli.demo_table import DemoTable, bundled_table, split, user_table
from mpcdp.cli.session_progress import SessionRun, run_network
from mpcdp.config import check_content
from mpcdp.data.dataset import Dataset
from mpcdp.data.table import read_dataset
from mpcdp.errors import InputError, TaskError
from mpcdp.learning.model import TrainedModel
from mpcdp.local_network import ProcessResult, create_network
from mpcdp.simulation import per_owner_noise, pooled_without_privacy, single_owner
from mpcdp.task import Task, load_task

__all__ = ["demo"]

_SIMULATED_RUNS = 20
_RUN_SECONDS = 600.0
_LABELS = {
    "non_private": "pooled, without privacy",
    "single_owner": "one hospital alone",
    "per_owner_noise": "every hospital adds its own noise",
    "mpcdp": "mpcdp: one noise, inside the computation",
}


@dataclass(frozen=True)
class _Result:
    """What the demo prints; the fields are those of ``--json``."""

    accuracy: Mapping[str, float]
    epsilon: float
    delta: float
    owners: int
    parties: int
    processes: int
    seconds: Mapping[str, float]
    bytes_sent: Mapping[str, int]
    links: Mapping[str, int]
    output: str


def demo(
    owners: Annotated[int, typer.Option(min=1, max=50, help="Number of organisations.")] = 8,
    parties: Annotated[int, typer.Option(min=2, max=5, help="Number of compute parties.")] = 3,
    epsilon: Annotated[float, typer.Option(help="Privacy budget.")] = 1.0,
    delta: Annotated[float, typer.Option(help="Privacy budget.")] = 1e-6,
    mechanism: Annotated[str, typer.Option(help="gaussian or laplace.")] = "gaussian",
    noise: Annotated[str, typer.Option(help="joint or per-party.")] = "joint",
    regularization: Annotated[float, typer.Option(help="l2 regularisation of the model.")] = 0.05,
    table: Annotated[Path | None, typer.Option(help="Your own CSV table.")] = None,
    schema: Annotated[Path | None, typer.Option(help="The schema (TOML) of your own table.")] = None,
    output: Annotated[Path | None, typer.Option(help="Output folder, new or empty.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Train one model across several organisations on this machine, and compare it.

    Beside it: all tables pooled without privacy, one organisation alone, and noise added by every organisation.

    Example: mpcdp demo --owners 5 --parties 2 --epsilon 0.5
    """
    if (table is None) != (schema is None):
        raise InputError("--table and --schema go together: a schema is public and never inferred from a table")
    folder = output or Path(f"mpcdp-demo-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    data = user_table(table, schema) if table is not None and schema is not None else bundled_table()
    console = Console(stderr=as_json)
    sections = {
        "privacy": {"epsilon": epsilon, "delta": delta, "mechanism": mechanism, "noise": noise},
        "model": {"kind": "logistic-regression", "regularization": regularization, "certificate": 1e-6},
    }
    task = _write_inputs(folder, data, sections, owners=owners, parties=parties)
    session = run_network(folder / "network", task, console, seconds=_RUN_SECONDS, quiet=as_json or quiet)
    result = _evaluate(folder, task, session)
    _draw(result, folder / "accuracy.png")
    (folder / "result.json").write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(asdict(result)))
    elif not quiet:
        _print(result, console)


def _write_inputs(
    folder: Path, data: DemoTable, sections: dict[str, dict[str, Any]], *, owners: int, parties: int
) -> Task:
    """Write every owner's table, the task and the network."""
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"--output {folder} is not empty: name a new folder")
    parts, test = split(len(data.rows), owners)
    names = [f"hospital-{number}" for number in range(1, owners + 1)]
    joint = sections["privacy"]["noise"] == "joint"
    task = {
        "task": {"version": 1, "name": "demo"},
        **sections,
        "method": {"kind": "output-perturbation"},
        "schema": data.schema.model_dump(mode="json"),
        "deadlines": {"start_seconds": 120.0, "contribution_seconds": 120.0, "round_seconds": 120.0},
        "coordinator": {"name": "coordinator"},
        **({"dealer": {"name": "dealer"}} if joint else {}),
        "compute_parties": [{"name": f"party-{number}"} for number in range(1, parties + 1)],
        "owners": [{"name": name, "record_count": len(rows)} for name, rows in zip(names, parts, strict=True)],
    }
    check_content(task, Task, TaskError, source="the demo's task")  # before anything is written
    tables = folder / "tables"
    tables.mkdir(parents=True)
    for name, rows in zip(names, parts, strict=True):
        data.write(tables / f"{name}.csv", rows)
    data.write(folder / "test.csv", test)
    (folder / "task.toml").write_bytes(tomli_w.dumps(task).encode())
    create_network(folder / "network", folder / "task.toml", tables={name: tables / f"{name}.csv" for name in names})
    return load_task(folder / "task.toml")


def _evaluate(folder: Path, task: Task, session: SessionRun) -> _Result:
    results = session.results
    start = time.monotonic()
    test = read_dataset(folder / "test.csv", task.schema_)
    tables = {o.name: read_dataset(folder / "tables" / f"{o.name}.csv", task.schema_) for o in task.owners}
    released = TrainedModel.load(session.model)
    runs = range(_SIMULATED_RUNS)
    alone = [_accuracy(single_owner(task, name, table), test) for name, table in tables.items() for _ in runs]
    noisy = [_accuracy(per_owner_noise(task, tables), test) for _ in runs]
    accuracy = {
        "non_private": _accuracy(pooled_without_privacy(task, list(tables.values())), test),
        "single_owner": float(np.mean(alone)),
        "per_owner_noise": float(np.mean(noisy)),
        "mpcdp": _accuracy(np.asarray(released.coefficients), test),
    }
    phases = next(dict(result.report["seconds"]) for result in results if result.role == "coordinator")
    links, by_role = _traffic(results)
    return _Result(
        accuracy=accuracy,
        epsilon=released.privacy.epsilon,
        delta=released.privacy.delta,
        owners=len(task.owners),
        parties=len(task.compute_parties),
        processes=len(results),
        seconds={**phases, "session": session.seconds, "comparison": time.monotonic() - start},
        bytes_sent=by_role,
        links=links,
        output=str(folder),
    )


def _accuracy(model: NDArray[np.float64], test: Dataset) -> float:
    return float(np.mean(np.where(test.features @ model > 0, 1.0, -1.0) == test.labels))


def _traffic(results: Sequence[ProcessResult]) -> tuple[dict[str, int], dict[str, int]]:
    """Return payload bytes per kind of link and per sending role."""
    roles = {result.name: result.role for result in results}
    links: dict[str, int] = defaultdict(int)
    by_role: dict[str, int] = dict.fromkeys(roles.values(), 0)
    for result in results:
        for peer, count in result.report["bytes_sent"].items():
            links[f"{result.role} -> {roles[peer]}"] += count
            by_role[result.role] += count
    return dict(links), by_role


def _print(result: _Result, console: Console) -> None:
    table = Table(title=f"{result.owners} hospitals, {result.parties} compute parties, epsilon {result.epsilon:g}")
    table.add_column("model")
    table.add_column("test accuracy", justify="right")
    for key, label in _LABELS.items():
        table.add_row(label, f"{result.accuracy[key]:.3f}", style="bold" if key == "mpcdp" else None)
    table.add_section()
    for phase, seconds in result.seconds.items():
        table.add_row(f"time: {phase}", f"{seconds:.2f} s")
    table.add_section()
    for link, count in result.links.items():
        table.add_row(f"sent: {link}", f"{count:,} B")
    console.print(table)
    console.print(
        f"({result.epsilon:g}, {result.delta:.3g})-differential privacy for each record, for the whole session."
    )
    console.print(
        f"Everything is in {result.output} (accuracy.png, result.json, task.toml, network/coordinator/state/)."
    )


def _draw(result: _Result, path: Path) -> None:
    """Draw the accuracies as a bar chart."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    keys = list(_LABELS)[::-1]
    colors = ["#1b7837" if key == "mpcdp" else "#9aa5b1" for key in keys]
    bars = axes.barh([_LABELS[key] for key in keys], [result.accuracy[key] for key in keys], color=colors)
    axes.bar_label(bars, fmt="%.3f", padding=4)
    axes.set_xlim(0, 1.12)
    axes.set_xlabel("test accuracy")
    axes.set_title(f"{result.owners} hospitals, epsilon {result.epsilon:g}, delta {result.delta:.2g}", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
