"""The frontier on a small table, other people's libraries included."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tables import small_table

from mpcdp.cli import main
from mpcdp.reproduce import central, tables
from mpcdp.reproduce.frontier import best_of
from mpcdp.reproduce.frontier_report import cost_rows
from mpcdp.reproduce.looks import LOOKS
from mpcdp.reproduce.plots import draw_frontier
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.settings import FULL

POINT = Point(
    table="t",
    figure="frontier",
    method="our_gradient",
    calibration="ours",
    owners=1000,
    epsilon=1.0,
    delta=1e-6,
    runs=4,
    quality=0.9,
    quality_deviation=0.03,
    loss=0.0,
    loss_deviation=0.0,
    gap=0.0,
    gap_deviation=0.0,
)


def test_the_cost_of_not_pooling_is_a_difference_with_its_error() -> None:
    pooled = replace(POINT, method="our_gradient_pooled", owners=1, quality=0.91, quality_deviation=0.04)
    other = replace(pooled, epsilon=2.0)  # nothing to compare it with
    (row,) = cost_rows([POINT, pooled, other])
    assert row[:6] == ["t", "our gradient", "1", "0.9100", "0.9000", "+0.0100"]
    assert float(row[6]) == pytest.approx(math.hypot(0.03, 0.04) / 2, abs=1e-4)
    assert best_of([POINT, pooled]) is pooled


@pytest.mark.exhaustive
@pytest.mark.parametrize("method", central.CENTRAL, ids=lambda method: method.key)
def test_other_peoples_libraries_learn_and_are_noisy(method: central.CentralMethod) -> None:
    if method.library in central.missing_libraries():
        pytest.skip(f"{method.library} is not installed, or does not load beside the others' versions")
    table = small_table(records=3000)
    for epsilon, least in ((10.0, 0.8), (1e-3, 0.0)):
        models = [method.train(table.training, epsilon, 1e-6, method.settings[0], seed) for seed in (1, 1, 2)]
        assert np.array_equal(models[0], models[1])
        assert not np.array_equal(models[0], models[2])
        right = np.mean(np.where(table.test.features @ models[0] > 0, 1.0, -1.0) == table.test.labels)
        assert right >= least


@pytest.mark.exhaustive
def test_the_frontier_of_a_small_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLES", {"adult": lambda folder: small_table(records=2000)})
    monkeypatch.setattr("mpcdp.cli.reproduce.QUICK", replace(FULL, epsilons=(1.0, 5.0)))
    folder = tmp_path / "out"
    arguments = ["reproduce", "frontier", "--quick", "--runs", "2", "--table", "adult", "--output", str(folder)]
    monkeypatch.setattr("sys.argv", ["mpcdp", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    results = json.loads((folder / "results.json").read_text())
    methods = {point["method"] for point in results["points"]}
    expected = {f"our_{kind}{pooled}" for kind in ("output", "gradient") for pooled in ("", "_pooled")}
    libraries = {"diffprivlib", "opacus"} - set(central.missing_libraries())
    others = {"per_owner_output", "per_owner_gradient", "mpc_output", "mpc_gradient"}
    assert methods == expected | others | libraries
    assert results["not_installed"] == central.missing_libraries()
    assert len(results["cost_of_not_pooling"]) == 4
    quality = {(point["method"], point["epsilon"]): point["quality"] for point in results["points"]}
    assert quality["our_gradient", 5.0] > quality["per_owner_gradient", 5.0]
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64") == 1
    assert (folder / "frontier-small.svg").exists()


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpcdp.reproduce.central._usable", lambda name: False)
    monkeypatch.setattr(tables, "TABLES", {"adult": lambda folder: small_table(records=2000)})
    monkeypatch.setattr("mpcdp.cli.reproduce._work", lambda stages, console: [POINT])
    monkeypatch.setattr("sys.argv", ["mpcdp", "reproduce", "frontier", "--table", "adult", "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert "not loading here: diffprivlib, opacus" in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["not_installed"] == ["diffprivlib", "opacus"]


def test_the_figure_shows_accuracy() -> None:
    points = [replace(POINT, table="small", epsilon=epsilon, quality=0.9, loss=0.02) for epsilon in (0.5, 1.0)]
    figure = draw_frontier(points, small_table(), reference=0.92)
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() == LOOKS["our_gradient"].title]
    assert [line.get_ydata().tolist() for line in lines] == [[0.9, 0.9]]
