"""What the frontier leaves behind: one page, one figure for each data set, every point as JSON."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpcdp.bench.machine import where_measured
from mpcdp.html_page import Command, Figure, Page, Section, Table, Text
from mpcdp.reproduce.central import CENTRAL, missing_libraries
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.frontier import FIGURE
from mpcdp.reproduce.plots import draw_frontier, save
from mpcdp.reproduce.points import Point

__all__ = ["COST_HEADER", "cost_rows", "save_frontier"]

COST_HEADER = ("table", "method", "epsilon", "one pooled table", "1,000 owners", "cost", "standard error")
"""Columns of what not pooling costs."""

_WHAT = (
    "Accuracy on test records, delta = 1e-6 or pure, m = 1,000 owners where there are owners. Simulated on public "
    "data; nothing here protected anybody. diffprivlib, Opacus and noise of every owner's own (output) have the best "
    "of a few settings in hindsight at every epsilon, ours one setting for all. Opacus protects against adding or "
    "removing a record, all others against replacing one, which is more. The paper's methods are shown with its "
    "calibration, which does not keep its promise for output and has delta = 1e-3 for gradients."
)


def save_frontier(
    experiments: Sequence[Experiment], points: Sequence[Point], folder: Path, *, command: str, seconds: float
) -> tuple[Path, list[list[str]]]:
    """Write everything into a folder.

    Returns:
        The page's path, and the table of what not pooling costs, its header first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing, where = missing_libraries(), where_measured(*(method.library for method in CENTRAL))
    sections = [Section("What this is", [Command(command), Text(_WHAT)])]
    if missing:
        names = ", ".join(missing)
        absent = f'Not run, because not installed or not loading here: {names} (pip install "mpcdp[reproduce]").'
        sections.append(Section("Left out", [Text(absent)]))
    for experiment in experiments:
        table = experiment.table
        figure = draw_frontier(points, table, reference=experiment.judge.reference)
        png = save(figure, folder, f"frontier-{table.name}")
        caption = f"{table.title}: accuracy over epsilon, whole and near the model without privacy (grey line)."
        sections.append(Section(table.title, [Figure(png, caption), Command(command)]))
    cost = cost_rows(points)
    rows = [[str(name), str(value)] for name, value in {**where["machine"], **where["versions"]}.items()]
    sections += [
        Section("What not pooling costs", [Table(COST_HEADER, cost)]),
        Section("Machine and versions", [Table(("what", "value"), rows), Text(f"It took {seconds:,.0f} seconds.")]),
    ]
    document: dict[str, Any] = {
        "command": command,
        "seconds": seconds,
        **where,
        "not_installed": missing,
        "settings": [{"table": each.table.name, **asdict(each.settings)} for each in experiments],
        "without_privacy": {each.table.name: each.judge.reference for each in experiments},
        "points": [point.to_json() for point in points],
        "cost_of_not_pooling": [dict(zip(COST_HEADER, row, strict=True)) for row in cost],
    }
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    page = folder / "report.html"
    page.write_text(Page(title="Accuracy over epsilon", sections=sections).render(), encoding="utf-8")
    return page, [list(COST_HEADER), *cost]


def cost_rows(points: Sequence[Point]) -> list[list[str]]:
    """Compare every point of ours with that of one owner who holds all records."""
    known = {(p.table, p.method, p.epsilon): p for p in points if p.figure == FIGURE}
    rows = []
    for (table, method, epsilon), pooled in known.items():
        split = known.get((table, method.removesuffix("_pooled"), epsilon))
        if not method.endswith("_pooled") or split is None:
            continue
        error = math.hypot(
            pooled.quality_deviation / math.sqrt(pooled.runs), split.quality_deviation / math.sqrt(split.runs)
        )
        numbers = [f"{pooled.quality:.4f}", f"{split.quality:.4f}", f"{pooled.quality - split.quality:+.4f}"]
        rows.append([table, split.method.replace("_", " "), f"{epsilon:g}", *numbers, f"{error:.4f}"])
    return rows
