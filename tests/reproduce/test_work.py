"""Stages in processes of their own: the same points in the same order, progress on the way, failures that say so."""

import os
import pickle
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from small_tables import small_table
from test_frontier import POINT

from mpcdp.errors import MpcdpError
from mpcdp.reproduce.experiment import Advance, Experiment, Stage
from mpcdp.reproduce.frontier import frontier_stages
from mpcdp.reproduce.iterations import iteration_stages
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.settings import QUICK
from mpcdp.reproduce.sweep import sweep_stages
from mpcdp.reproduce.work import StageNews, do_stages


def _points(number: int, advance: Advance) -> Sequence[Point]:
    advance(0.25)
    advance(0.75)
    return [replace(POINT, owners=number, epsilon=epsilon, loss=float(os.getpid())) for epsilon in (1.0, 2.0)]


def _fail(advance: Advance) -> Sequence[Point]:
    raise ValueError("the matrix is singular")


def _die(advance: Advance) -> Sequence[Point]:
    os.kill(os.getpid(), signal.SIGKILL)
    return []


@pytest.mark.parametrize("jobs", [1, 2])
def test_points_come_in_the_order_of_the_stages(jobs: int) -> None:
    news: list[StageNews] = []
    points = do_stages([Stage(str(n), partial(_points, n)) for n in range(5)], jobs=jobs, tell=news.append)
    assert [(point.owners, point.epsilon) for point in points] == [(n, e) for n in range(5) for e in (1.0, 2.0)]
    assert ({point.loss for point in points} == {os.getpid()}) == (jobs == 1)
    for number in range(5):
        told = [one for one in news if one.stage == number]
        assert [one.share for one in told] == [0.0, 0.25, 0.75, 0.0]
        assert [one.seconds is None for one in told] == [True, True, True, False]


@pytest.mark.parametrize("regression", [False, True])
def test_every_stage_can_be_sent_to_another_process(regression: bool) -> None:
    experiment = Experiment(small_table(regression=regression), replace(QUICK, owners=(4,), iteration_owners=(4,)))
    assert experiment.judge.reference > 0  # computed before, it goes along
    stages = [*iteration_stages(experiment), *sweep_stages(experiment), *frontier_stages(experiment)]
    again = pickle.loads(pickle.dumps(stages))  # noqa: S301 (what was just written)
    assert [stage.title for stage in again] == [stage.title for stage in stages]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stage_that_fails_is_not_left_out(jobs: int) -> None:
    stages = [Stage("good", partial(_points, 1)), Stage("bad", _fail), Stage("good", partial(_points, 2))]
    with pytest.raises(ValueError, match="singular"):
        do_stages(stages, jobs=jobs, tell=lambda news: None)


def test_a_killed_process_is_an_error_with_a_cure() -> None:
    with pytest.raises(MpcdpError, match="--jobs"):
        do_stages([Stage("good", partial(_points, 1)), Stage("dies", _die)], jobs=2, tell=lambda news: None)
