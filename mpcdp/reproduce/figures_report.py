"""The page's part about the paper's figures, from what `mpcdp reproduce figures` has written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpcdp.html_page import Block, Command, Figure, Section, Table, Text
from mpcdp.reproduce.deviations import Deviation, explanations
from mpcdp.reproduce.looks import LOOKS, calibration_name
from mpcdp.reproduce.noise_table import NOISE_HEADER, NoiseRow
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.real import REAL_HEADER, RealRun
from mpcdp.reproduce.settings import PAPER_EPSILON, PAPER_OWNERS

__all__ = ["DEVIATION_HEADER", "deviation_cells", "figures_sections"]

DEVIATION_HEADER = ("table", "metric", "method", "published", "measured", "sd", "ratio", "mean ratio")
"""Columns of the deviations."""

_WHAT = (
    "Everything in one process, in the clear, on public data, with numpy's seeded randomness: nothing here protected "
    "anybody. Our methods run through a session's plan, encoding and noise (whose randomness has no seed). Points are "
    "means over the runs, bands one standard deviation. The paper's calibration is what its figures were made with; "
    "the table of noise says what each really guarantees."
)
_DEVIATIONS = (
    f"The paper's points at m = {PAPER_OWNERS:,}, epsilon = {PAPER_EPSILON:g}, iteration 1,400, with its calibration. "
    "Mean ratio: geometric mean of measured over published along all iterations."
)
_POINT_HEADER = ("method", "calibration", "m", "epsilon", "delta", "runs", "quality", "sd", "loss", "sd", "gap", "sd")


def figures_sections(document: Mapping[str, Any], folder: Path) -> list[Section]:
    """Return what is shown of `Results.save`'s ``results.json`` and of the figures beside it."""
    made_by = Command(document["command"])
    sections = [Section("The paper's figures again", [made_by, Text(_WHAT)])]
    sections += [_table_section(document, table, folder) for table in document["tables"]]
    found = [
        Deviation(**{name: value for name, value in one.items() if name != "ratio"}) for one in document["deviations"]
    ]
    compared = Table(DEVIATION_HEADER, [deviation_cells(one) for one in found])
    reasons = [Text(line) for line in explanations(found)]
    sections.append(Section("Deviations from the paper", [Text(_DEVIATIONS), compared, *reasons, made_by]))
    sections.append(Section("Real processes", _real_blocks(document, made_by)))
    return sections


def deviation_cells(one: Deviation) -> list[str]:
    """Return a deviation for people, as `DEVIATION_HEADER` says."""
    return [
        one.table,
        one.metric.replace("_", " "),
        LOOKS[one.method].title,
        f"{one.published:.3g}",
        f"{one.measured:.3g}",
        f"{one.spread:.2g}",
        f"{one.ratio:.2f}",
        f"{one.mean_ratio:.2f}",
    ]


def _table_section(document: Mapping[str, Any], table: Mapping[str, Any], folder: Path) -> Section:
    described = (
        f"{table['training_records']:,} training and {table['test_records']:,} test records of {table['dimension']} "
        f"coordinates, from {table['source']}. Without privacy: {table['measure']} {table['without_privacy']:.4f}."
    )
    blocks: list[Block] = [Text(described)]
    for figure in table["figures"]:
        blocks += [Figure((folder / figure["file"]).read_bytes(), figure["caption"]), Command(document["command"])]
    noise = [NoiseRow(**row).cells() for row in document["noise"][table["name"]]]
    owners = min(PAPER_OWNERS, table["training_records"])
    caption = f"Noise (the paper's Table 1) at m = {owners:,}, epsilon = {PAPER_EPSILON:g}"
    points = [Point(**one) for one in document["points"] if one["table"] == table["name"]]
    ends = [_point_cells(point) for point in points if point.figure == "epsilon"]
    blocks += [Table(NOISE_HEADER, noise, caption), Table(_POINT_HEADER, ends, "Figures at the end of training")]
    return Section(f"The paper's figures: {table['title']}", blocks)


def _real_blocks(document: Mapping[str, Any], made_by: Command) -> list[Block]:
    if not document["real"]:
        return [Text("Not run: add --real.")]
    runs = [RealRun(**{name: value for name, value in one.items() if name != "agrees"}) for one in document["real"]]
    note = "Sessions of real processes on loopback beside simulations of the same tasks."
    return [Text(note), Table(REAL_HEADER, [run.cells() for run in runs]), made_by]


def _point_cells(point: Point) -> list[str]:
    return [
        LOOKS[point.method].title,
        calibration_name(point.calibration),
        f"{point.owners:,}",
        f"{point.epsilon:g}",
        f"{point.delta:g}",
        f"{point.runs}",
        f"{point.quality:.4f}",
        f"{point.quality_deviation:.2g}",
        f"{point.loss:.3g}",
        f"{point.loss_deviation:.2g}",
        f"{point.gap:.3g}",
        f"{point.gap_deviation:.2g}",
    ]
