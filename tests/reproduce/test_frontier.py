"""The frontier on a small table, other people's libraries included."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tables import small_table

from mpcdp.cli import main
from mpcdp.errors import PeerError
from mpcdp.reproduce import central, tables
from mpcdp.reproduce.experiment import Stage
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
    (row,) = cost_rows([POINT, pooled, other], errors={"t"})  # an error: what is larger is worse
    assert row[5] == "-0.0100"
    assert best_of([POINT, pooled], regression=False) is pooled
    assert best_of([POINT, pooled], regression=True) is POINT


@pytest.mark.slow
@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("method", central.CENTRAL, ids=lambda method: method.library)
def test_other_peoples_libraries_learn_and_are_noisy(method: central.CentralMethod, regression: bool) -> None:
    method.prepare()
    table = small_table(records=3000, regression=regression)
    strong, weak = 10.0, 0.01
    trials = [central.Trial(eps, 1e-6, method.settings[0], seed) for eps in (strong, weak) for seed in (1, 1, 2)]
    models = method.train(table.training, trials)
    assert models.shape == (6, table.training.dimension)
    for same, again, other in (models[:3], models[3:]):
        assert np.array_equal(same, again)
        assert not np.array_equal(same, other)
    scores = table.test.features @ models.T
    if regression:
        errors = np.mean((scores - table.test.labels[:, np.newaxis]) ** 2, axis=0)
        assert errors[0] < 0.5 * np.mean(table.test.labels**2)
    else:
        assert np.mean(np.sign(scores[:, 0]) == table.test.labels) >= 0.8
    assert np.linalg.norm(models[3] - models[5]) > 10 * np.linalg.norm(models[0] - models[2])


@pytest.mark.exhaustive
@pytest.mark.parametrize("regression", [False, True])
def test_the_frontier_of_a_small_table(regression: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "TABLES", {"adult": lambda folder: small_table(records=2000, regression=regression)})
    monkeypatch.setattr("mpcdp.cli.reproduce.QUICK", replace(FULL, epsilons=(1.0, 5.0)))
    folder = tmp_path / "out"
    arguments = ["reproduce", "frontier", "--quick", "--runs", "2", "--table", "adult", "--output", str(folder)]
    monkeypatch.setattr("sys.argv", ["mpcdp", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    results = json.loads((folder / "results.json").read_text())
    methods = {point["method"] for point in results["points"]}
    once = "statistics" if regression else "output"
    expected = {f"our_{kind}{pooled}" for kind in (once, "gradient") for pooled in ("", "_pooled")}
    others = {"per_owner_gradient", "mpc_output", "mpc_gradient", "diffprivlib", "opacus"}
    assert methods == expected | others | (set() if regression else {"per_owner_output"})
    assert results["left_out"] == {}
    assert len(results["cost_of_not_pooling"]) == 4
    quality = {(point["method"], point["epsilon"]): point["quality"] for point in results["points"]}
    better = quality["our_gradient", 1.0] - quality["per_owner_gradient", 1.0]
    assert better < 0 if regression else better > 0
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64") == 1
    assert (folder / f"frontier-{'small-number' if regression else 'small'}.svg").exists()


def test_what_cannot_be_used_is_said_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise PeerError("python", "no network < here")

    monkeypatch.setattr(central, "CENTRAL", [replace(method, prepare=fails) for method in central.CENTRAL])
    monkeypatch.setattr(tables, "TABLES", {"adult": lambda folder: small_table(records=2000)})
    asked: list[str] = []

    def work(stages: Sequence[Stage], jobs: int | None, console: object) -> list[Point]:
        asked.extend(stage.title for stage in stages)
        return [POINT]

    monkeypatch.setattr("mpcdp.cli.reproduce._work", work)
    monkeypatch.setattr("sys.argv", ["mpcdp", "reproduce", "frontier", "--table", "adult", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "opacus was not run: python: no network &lt; here" in (tmp_path / "report.html").read_text()
    assert "diffprivlib is left out: python: no network" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "results.json").read_text())["left_out"]) == {"diffprivlib", "opacus"}
    assert asked
    assert not [title for title in asked if "diffprivlib" in title or "opacus" in title]


def test_the_figure_shows_accuracy() -> None:
    points = [replace(POINT, table="small", epsilon=epsilon, quality=0.9, loss=0.02) for epsilon in (0.5, 1.0)]
    figure = draw_frontier(points, small_table(), reference=0.92)
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() == LOOKS["our_gradient"].title]
    assert [line.get_ydata().tolist() for line in lines] == [[0.9, 0.9]]
