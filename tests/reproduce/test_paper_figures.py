"""The paper's setting on its table, KDDCup99: m = 1,000, epsilon = 0.5, mean of 20 runs; and real sessions."""

import os
from pathlib import Path

import pytest

from mpcdp.reproduce.deviations import Deviation, deviations, order
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.iterations import iteration_stages
from mpcdp.reproduce.our_points import our_points
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.real import real_methods, run_for_real
from mpcdp.reproduce.settings import DELTA, PAPER_EPSILON, PAPER_OWNERS, RunSettings
from mpcdp.reproduce.tables import load_table

pytestmark = [pytest.mark.data, pytest.mark.slow]

SETTINGS = RunSettings(owners=(PAPER_OWNERS,), iteration_owners=(PAPER_OWNERS,), epsilons=(PAPER_EPSILON,), runs=20)
PAPERS_OWN = ("mpc_output", "mpc_gradient")


def _experiment(name: str) -> Experiment:
    folder = os.environ.get("MPCDP_DATA")
    if folder is None:
        pytest.skip("set MPCDP_DATA to the folder of the benchmark tables")
    return Experiment(load_table(name, Path(folder)), SETTINGS)


@pytest.fixture(scope="module", name="experiment")
def _kddcup99() -> Experiment:
    return _experiment("kddcup99")


@pytest.fixture(scope="module", name="ours")
def _ours(experiment: Experiment) -> dict[str, Point]:
    points = our_points(experiment, PAPER_OWNERS, PAPER_EPSILON, figure="epsilon")
    assert all((point.delta, point.runs) == (DELTA, 20) for point in points)
    return {point.method: point for point in points}


@pytest.fixture(scope="module", name="found")
def _found(experiment: Experiment) -> list[Deviation]:
    papers = [stage for stage in iteration_stages(experiment) if not stage.title.endswith("ours")]
    return deviations([point for stage in papers for point in stage.run(lambda share: None)])


def test_our_valid_output_is_within_0_003_of_no_privacy(experiment: Experiment, ours: dict[str, Point]) -> None:
    assert ours["our_output"].quality >= experiment.judge.reference - 0.003


def test_our_valid_gradient_is_within_0_001_of_no_privacy(experiment: Experiment, ours: dict[str, Point]) -> None:
    assert ours["our_gradient"].quality >= experiment.judge.reference - 0.001


def test_the_papers_calibration_gives_the_papers_order(found: list[Deviation]) -> None:
    """By the optimality gap: all baselines, and the paper's two methods, which are better than all but one of them.

    Rajkumar and Agarwal's gap is the smallest in the paper; by the formula of its code it is larger (see the
    deviations), so its place among the paper's own two methods is not the paper's.
    """
    published, measured = order(found, table="kddcup99", metric="optimality_gap")
    for some in (set(published) - set(PAPERS_OWN), set(published) - {"rajkumar_agarwal"}):
        assert [method for method in measured if method in some] == [method for method in published if method in some]


def test_the_papers_gaps_are_met(found: list[Deviation]) -> None:
    """Along all iterations, as geometric means: within a third, but for Rajkumar and Agarwal's."""
    gaps = {one.method: one.mean_ratio for one in found if one.metric == "optimality_gap"}
    assert len(gaps) == 7
    assert 1 < gaps.pop("rajkumar_agarwal") < 5
    assert all(0.75 <= ratio <= 4 / 3 for ratio in gaps.values()), gaps


def test_the_papers_methods_lose_less_accuracy_than_every_baseline_but_one(found: list[Deviation]) -> None:
    losses = {one.method: one.measured for one in found if one.metric == "accuracy_loss"}
    others = set(losses) - {*PAPERS_OWN, "rajkumar_agarwal"}
    assert max(losses[method] for method in PAPERS_OWN) < 0.05 * min(losses[method] for method in others)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("table", "method"),
    [
        (table, method)
        for table, regression in (("kddcup99", False), ("adult", False), ("california-housing", True))
        for method in real_methods(regression=regression)
    ],
)
def test_real_sessions_agree_with_the_simulation(table: str, method: str) -> None:
    for run in run_for_real(_experiment(table), method):
        assert run.agrees, run
