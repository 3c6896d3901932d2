"""What `mpcdp reproduce frontier` leaves behind: one figure for each data set, every point as JSON, and one page."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpcdp.bench.machine import where_measured
from mpcdp.html_page import Command, Figure, Section, Table, Text
from mpcdp.reproduce.central import DIFFPRIVLIB
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.frontier import FIGURE
from mpcdp.reproduce.plots import draw_frontier, save
from mpcdp.reproduce.points import Point

__all__ = ["COST_HEADER", "cost_rows", "frontier_sections", "save_frontier"]

COST_HEADER = ("table", "method", "epsilon", "one pooled table", "1,000 owners", "cost", "standard error")
"""Columns of what not pooling costs."""

_WHAT = (
    "Accuracy (or mean squared error) on test records, delta = 1e-6 or pure, m = 1,000 owners where there are owners. "
    "Simulated on public data; nothing here protected anybody. diffprivlib, Opacus and noise of every owner's own "
    "(output) have the best of a few settings in hindsight at every epsilon, ours one setting for all. Opacus protects "
    "against adding or removing a record, all others against replacing one, which is more. The paper's methods are "
    "shown with its calibration, which does not keep its promise for output and has delta = 1e-3 for gradients. "
    "diffprivlib's least squares has no regularisation, so noise may leave it with a matrix that is nearly singular."
)
_COST = (
    "Ours with 1,000 owners beside ours with one owner who holds all records: how much worse the former is, with the "
    "standard error of the difference of the two means. By gradients and by statistics the noised sums are the same, "
    "so nothing is lost; by output perturbation what is averaged are models of few records each, whose mean is not the "
    "model of all records, with or without noise."
)


def save_frontier(
    experiments: Sequence[Experiment],
    points: Sequence[Point],
    folder: Path,
    *,
    command: str,
    seconds: float,
    left_out: Mapping[str, str],
) -> None:
    """Write figures and ``results.json`` into a folder.

    Args:
        experiments: one for each table.
        points: of all of them.
        folder: made if it is missing.
        command: that made it.
        seconds: that it took.
        left_out: libraries that could not be used, and why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for experiment in experiments:
        table, reference = experiment.table, experiment.judge.reference
        save(draw_frontier(points, table, reference=reference), folder, f"frontier-{table.name}")
        caption = f"{table.title}: quality over epsilon, whole and near the model without privacy (grey line)."
        figure = {"file": f"frontier-{table.name}.png", "caption": caption}
        tables.append({"name": table.name, "title": table.title, "without_privacy": reference, "figure": figure})
    cost = cost_rows(points, errors={each.table.name for each in experiments if each.table.regression})
    where = where_measured("opacus", "scikit-learn")
    where["versions"]["environment of diffprivlib"] = ", ".join(DIFFPRIVLIB)
    document: dict[str, Any] = {
        "kind": "frontier",
        **where,
        "command": command,
        "seconds": seconds,
        "left_out": dict(left_out),
        "settings": [{"table": each.table.name, **asdict(each.settings)} for each in experiments],
        "tables": tables,
        "points": [point.to_json() for point in points],
        "cost_of_not_pooling": [dict(zip(COST_HEADER, row, strict=True)) for row in cost],
    }
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def frontier_sections(document: Mapping[str, Any], folder: Path) -> list[Section]:
    """Return what is shown of `save_frontier`'s ``results.json`` and of the figures beside it."""
    made_by = Command(document["command"])
    sections = [Section("Quality over epsilon", [made_by, Text(_WHAT)])]
    if document["left_out"]:
        reasons = [Text(f"{library} was not run: {reason}") for library, reason in document["left_out"].items()]
        sections.append(Section("Left out", reasons))
    for table in document["tables"]:
        figure = Figure((folder / table["figure"]["file"]).read_bytes(), table["figure"]["caption"])
        sections.append(Section(f"Quality over epsilon: {table['title']}", [figure, made_by]))
    rows = [[row[name] for name in COST_HEADER] for row in document["cost_of_not_pooling"]]
    sections.append(Section("What not pooling costs", [Text(_COST), Table(COST_HEADER, rows), made_by]))
    return sections


def cost_rows(points: Sequence[Point], *, errors: Collection[str] = ()) -> list[list[str]]:
    """Compare every point of ours with that of one owner who holds all records.

    Args:
        points: of the frontier.
        errors: tables whose quality is an error, better when smaller.
    """
    known = {(p.table, p.method, p.epsilon): p for p in points if p.figure == FIGURE}
    rows = []
    for (table, method, epsilon), pooled in known.items():
        split = known.get((table, method.removesuffix("_pooled"), epsilon))
        if not method.endswith("_pooled") or split is None:
            continue
        error = math.hypot(
            pooled.quality_deviation / math.sqrt(pooled.runs), split.quality_deviation / math.sqrt(split.runs)
        )
        cost = (split.quality - pooled.quality) if table in errors else (pooled.quality - split.quality)
        numbers = [f"{pooled.quality:.4f}", f"{split.quality:.4f}", f"{cost:+.4f}"]
        rows.append([table, split.method.replace("_", " "), f"{epsilon:g}", *numbers, f"{error:.4f}"])
    return rows
