"""From points to figures, deviations and a page; and the whole command on a small table."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tables import small_table

from mpcdp.cli import main
from mpcdp.html_page import Command, Figure, Page, Section, Table, Text
from mpcdp.reproduce import tables
from mpcdp.reproduce.deviations import deviations, explanations, order
from mpcdp.reproduce.iterations import ITERATIONS
from mpcdp.reproduce.points import Point, seed_of
from mpcdp.reproduce.published import published_points
from mpcdp.reproduce.real import RealRun
from mpcdp.reproduce.settings import FULL

OURS = {False: ("our_output", "our_laplace_output", "our_gradient"), True: ("our_statistics", "our_gradient")}
METHODS = (
    "pathak",
    "local_output",
    "local_objective",
    "local_gradient",
    "rajkumar_agarwal",
    "mpc_output",
    "mpc_gradient",
)


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["mpcdp", "reproduce", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_every_published_point_is_there() -> None:
    points = published_points()
    assert len(points) == 2 * 2 * 7 * 15
    assert {point.table for point in points} == {"kddcup99", "kddcup98"}
    assert {point.method for point in points} == set(METHODS)
    assert sorted({point.iterations for point in points}) == list(ITERATIONS)
    last = {(p.metric, p.method): p.value for p in points if p.table == "kddcup99" and p.iterations == 1400}
    assert last["optimality_gap", "pathak"] == 814
    assert last["accuracy_loss", "mpc_output"] == 0.0004


def _points(factor: float, **where: object) -> list[Point]:
    gaps = {
        (p.method, p.iterations): p.value
        for p in published_points()
        if (p.table, p.metric) == ("kddcup99", "optimality_gap")
    }
    point = Point(
        table="kddcup99",
        figure="iterations",
        method="",
        calibration="paper",
        owners=1000,
        epsilon=0.5,
        delta=1e-3,
        runs=20,
        quality=0.9,
        quality_deviation=0.01,
        loss=0.1,
        loss_deviation=0.01,
        gap=0.0,
        gap_deviation=0.5,
    )
    placed = replace(point, **where)  # type: ignore[arg-type]
    return [
        replace(placed, method=method, iterations=iterations, gap=factor * gap)
        for (method, iterations), gap in gaps.items()
    ]


def test_deviations_are_ratios_to_the_published_points() -> None:
    found = deviations([*_points(3.0), *_points(9.0, owners=100), *_points(9.0, calibration="valid")])
    gaps = [deviation for deviation in found if deviation.metric == "optimality_gap"]
    assert {deviation.method for deviation in gaps} == set(METHODS)
    for deviation in gaps:
        assert deviation.ratio == pytest.approx(3.0)
        assert deviation.mean_ratio == pytest.approx(3.0)
        assert deviation.spread == 0.5
    reasons = explanations(gaps)
    assert len(reasons) == len(METHODS)  # three times as large is large
    assert [line for line in reasons if "pathak" in line] == ["kddcup99, optimality gap, pathak: not explained."]
    assert [line for line in reasons if "mpc output: 0.0 standard deviations" in line]
    assert not explanations([one for one in deviations(_points(1.2)) if one.metric == "optimality_gap"])
    published, measured = order(found, table="kddcup99", metric="optimality_gap")
    assert published == measured
    assert published[0] == "pathak"
    assert deviations([]) == []


def test_a_page_stands_alone_and_shows_text_as_text() -> None:
    blocks = (Text("a < b"), Command("mpcdp x --y"), Figure(b"\x89PNG", "c"), Table(("h",), [["1.5"], ["<i>"]], "t"))
    page = Page(title="R & D", sections=[Section("One", blocks)]).render()
    assert "R &amp; D" in page
    assert "a &lt; b" in page
    assert "<code>mpcdp x --y</code>" in page
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert '<td class="number">1.5</td>' in page
    assert "<td>&lt;i&gt;</td>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_real_session_agrees_only_within_the_interval() -> None:
    run = RealRun(
        table="t",
        method="our_output",
        owners=4,
        epsilon=1.0,
        quantity="q",
        real=1.0,
        simulated=1.0,
        deviation=0.1,
        runs=20,
    )
    assert run.agrees
    # t quantile of 99.9 %: 3.88 deviations of the logarithm, and a little for the mean's own
    assert replace(run, real=math.exp(0.39)).agrees
    assert not replace(run, real=math.exp(0.41)).agrees
    assert not replace(run, real=math.exp(-0.41)).agrees


def test_seeds_depend_on_what_they_are_for() -> None:
    assert seed_of(1, "a", 2) == seed_of(1, "a", 2)
    assert len({seed_of(1, "a", 2), seed_of(1, "a", 3), seed_of(2, "a", 2), seed_of(1, "a2")}) == 4


@pytest.mark.exhaustive
@pytest.mark.parametrize("regression", [False, True])
def test_figures_of_a_small_table(regression: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = small_table(regression=regression)
    monkeypatch.setattr(tables, "TABLES", {"adult": lambda folder: table})
    small = replace(FULL, owners=(20,), iteration_owners=(20,), epsilons=(1.0,))
    monkeypatch.setattr("mpcdp.cli.reproduce.QUICK", small)
    folder = tmp_path / "out"
    assert _run(monkeypatch, "figures", "--table", "adult", "--quick", "--runs", "2", "--output", str(folder)) == 0
    results = json.loads((folder / "results.json").read_text())
    points = results["points"]
    assert {p["method"] for p in points} == {*METHODS, *OURS[regression]}
    assert all(np.isfinite([p["gap"], p["loss"], p["quality"]]).all() and p["gap"] >= -1e-9 for p in points)
    path = [p for p in points if p["figure"] == "iterations" and p["method"] == "mpc_output"]
    assert [p["iterations"] for p in path] == list(ITERATIONS)
    assert results["command"].startswith("mpcdp reproduce figures --table adult")
    assert results["versions"]["mpcdp"]
    for name in (f"iterations-{table.name}-m20", f"epsilon-{table.name}"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in (folder / f"{name}.svg").read_text()
    assert (folder / "report.html").read_text().count("data:image/png;base64") == 2
    assert "Deviations" in (folder / "deviations.md").read_text()
    kept = {(row["method"], row["calibration"]): row["kept"] for row in results["noise"][table.name]}
    assert kept["mpc_output", "paper"] is False
    assert kept["mpc_output", "valid"] is not regression  # the squared loss is not Lipschitz
    assert kept["our_gradient", "ours"] is True
