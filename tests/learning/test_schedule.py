"""The rules of gradient perturbation: what they promise, and that a large budget finds the minimum."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.learning.schedule import Schedule, choose_schedule

_MUS, _RECORDS, _DIMENSIONS = st.floats(1e-4, 100), st.integers(2, 10**8), st.integers(1, 10**6)
_REGULARIZATIONS = st.one_of(st.just(0.0), st.floats(1e-7, 1.0))
_SMOOTHNESS = st.sampled_from([0.25, 0.5, 1.0, 8.0])


def schedule(**changes: Any) -> Schedule:
    """Choose for logistic regression on a table of Adult's size."""
    values: dict[str, Any] = {
        "mu": 0.1,
        "record_count": 30_000,
        "dimension": 100,
        "gradient_bound": 1.0,
        "smoothness": 0.25,
        "regularization": 1e-3,
    }
    return choose_schedule(**{**values, **changes})


def whole_path(chosen: Schedule) -> float:
    """Return what all steps add up to."""
    return chosen.rounds * chosen.learning_rate / (1 - chosen.momentum)


@given(mu=_MUS, record_count=_RECORDS, dimension=_DIMENSIONS, regularization=_REGULARIZATIONS, bound=st.floats(0.1, 10))
def test_clipping_is_between_a_share_of_the_largest_gradient_and_all_of_it(
    mu: float, record_count: int, dimension: int, regularization: float, bound: float
) -> None:
    given_here: dict[str, Any] = {
        "record_count": record_count,
        "dimension": dimension,
        "gradient_bound": bound,
        "regularization": regularization,
    }
    norms = [schedule(mu=each, **given_here).clipping_norm for each in (mu, 2 * mu, 1e12)]
    assert 0.2985 * bound <= norms[0] <= norms[1] <= norms[2]
    assert norms[2] == pytest.approx(bound, rel=0.005)


@given(
    mu=_MUS,
    record_count=_RECORDS,
    dimension=_DIMENSIONS,
    regularization=_REGULARIZATIONS,
    smoothness=_SMOOTHNESS,
    rounds=st.one_of(st.none(), st.integers(1, 2000)),
)
def test_the_squared_loss_is_stable_whatever_is_asked_for(
    mu: float, record_count: int, dimension: int, regularization: float, smoothness: float, rounds: int | None
) -> None:
    chosen = schedule(
        mu=mu,
        record_count=record_count,
        dimension=dimension,
        regularization=regularization,
        smoothness=smoothness,
        quadratic=True,
        rounds=rounds,
    )
    curvature = smoothness + regularization  # momentum steps shrink every distance while eta a < 2 (1 + b)
    assert chosen.learning_rate * curvature < 2 * (1 + chosen.momentum)
    matrix = np.array(
        [
            [1 - chosen.learning_rate * curvature + chosen.momentum, -chosen.momentum],
            [1.0, 0.0],
        ]
    )
    assert np.abs(np.linalg.eigvals(matrix)).max() < 1


@given(mu=st.floats(1e-4, 1e4), regularization=_REGULARIZATIONS)
def test_rounds_suffice_to_arrive_and_are_not_more_than_that(mu: float, regularization: float) -> None:
    chosen = schedule(mu=mu, regularization=regularization)
    assert 100 <= chosen.rounds <= 1000
    asked = 1.2 * mu * 30_000 / chosen.clipping_norm
    assert chosen.learning_rate / (1 - chosen.momentum) <= 16.05 / 0.25
    if regularization > 0:
        asked = min(asked, 8 / regularization)
        assert chosen.learning_rate / (1 - chosen.momentum) <= 0.501 / regularization
    assert whole_path(chosen) == pytest.approx(min(asked, 64_000), rel=0.01)


def test_noise_on_the_objective_stays_small_where_clipping_is_loosened() -> None:
    """d / 2 (2 C / (mu N))^2 / lambda is the rule's bound: at most 0.003."""
    for mu in np.geomspace(0.01, 1, 40):
        norm = schedule(mu=mu).clipping_norm
        noise = 100 / 2 * (2 * norm / (mu * 30_000)) ** 2 * min(1e3, 1.2 * mu * 30_000 / norm)
        assert norm == 0.3 or noise <= 0.00306
        if 0.3 < norm < 1:
            assert noise == pytest.approx(0.003, rel=0.02)


def test_momentum_comes_with_loosened_clipping_and_is_felt_in_a_tenth_of_the_rounds() -> None:
    noisy, loosened = schedule(mu=0.01), schedule()
    assert (noisy.clipping_norm, noisy.momentum) == (0.3, 0)
    assert (loosened.clipping_norm > 0.3, loosened.momentum) == (True, 0.9)
    assert [schedule(rounds=rounds).momentum for rounds in (1, 5, 10, 20, 100, 5000)] == [0, 0, 0, 0.5, 0.9, 0.9]
    assert schedule(learning_rate=0.5).momentum == 0
    given_rate = schedule(learning_rate=0.5, momentum=0.8)
    assert (given_rate.learning_rate, given_rate.momentum) == (0.5, 0.8)
    assert whole_path(schedule(momentum=0.5)) == pytest.approx(whole_path(loosened), rel=0.01)


def test_what_a_task_has_is_kept() -> None:
    chosen = schedule(rounds=7, clipping_norm=0.1)
    assert (chosen.rounds, chosen.clipping_norm) == (7, 0.1)
    assert schedule(learning_rate=3.0).learning_rate == 3.0
    assert schedule(mu=10.0, learning_rate=16.0).rounds == 500  # what adds up to 8 / lambda
