"""Bounds on attackers, against the exact trade-off of the Gaussian mechanism and against randomised response."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from mpcdp.privacy.accountant import gaussian_delta
from mpcdp.privacy.attacks import posterior_bound, success_bound, true_positive_bound

EPSILON = st.floats(0.01, 8.0)
RATE = st.floats(1e-6, 1.0)


@given(mu=st.floats(0.05, 3.0), epsilon=EPSILON, rate=RATE)
def test_no_test_of_a_gaussian_mechanism_beats_the_bound(mu: float, epsilon: float, rate: float) -> None:
    """The best test's true positives are Phi(Phi^-1(alpha) + mu) (Neyman and Pearson)."""
    delta = gaussian_delta(epsilon=epsilon, mu=mu)
    best = float(norm.cdf(norm.ppf(rate) + mu))
    assert best <= true_positive_bound(epsilon=epsilon, delta=delta, false_positive_rate=rate) + 1e-9


@given(mu=st.floats(0.2, 3.0), epsilon=st.floats(0.05, 4.0))
def test_the_bound_is_attained_where_the_curve_touches_it(mu: float, epsilon: float) -> None:
    """The worst event of the curve has likelihood ratio e^epsilon: there the first bound is met exactly."""
    rate = float(norm.cdf(-mu / 2 - epsilon / mu))
    delta = gaussian_delta(epsilon=epsilon, mu=mu)
    bound = true_positive_bound(epsilon=epsilon, delta=delta, false_positive_rate=rate)
    assert bound == pytest.approx(float(norm.cdf(norm.ppf(rate) + mu)), rel=1e-6)


@given(epsilon=EPSILON)
def test_randomised_response_attains_the_success_bound(epsilon: float) -> None:
    assert success_bound(epsilon=epsilon, delta=0.0) == pytest.approx(math.exp(epsilon) / (1 + math.exp(epsilon)))


@given(epsilon=EPSILON, delta=st.floats(0.0, 0.2))
def test_success_is_the_best_mean_of_right_answers(epsilon: float, delta: float) -> None:
    rates = [point / 2000 for point in range(2001)]
    means = [
        (true_positive_bound(epsilon=epsilon, delta=delta, false_positive_rate=rate) + 1 - rate) / 2 for rate in rates
    ]
    assert max(means) == pytest.approx(success_bound(epsilon=epsilon, delta=delta), abs=2e-3)
    assert max(means) <= success_bound(epsilon=epsilon, delta=delta) + 1e-12


@given(epsilon=EPSILON, prior=st.floats(0.01, 0.99), rate=st.floats(0.001, 1.0))
def test_odds_grow_by_at_most_e_to_the_epsilon_without_delta(epsilon: float, prior: float, rate: float) -> None:
    after = posterior_bound(epsilon=epsilon, delta=0.0, prior=prior, false_positive_rate=rate)
    odds = after / (1 - after) if after < 1 else math.inf
    assert odds <= math.exp(epsilon) * prior / (1 - prior) * (1 + 1e-9)
    assert after >= prior - 1e-12


def test_without_privacy_nothing_is_promised_and_with_all_of_it_nothing_is_learnt() -> None:
    assert true_positive_bound(epsilon=1.0, delta=1.0, false_positive_rate=0.0) == 1.0
    assert true_positive_bound(epsilon=0.0, delta=0.0, false_positive_rate=0.3) == pytest.approx(0.3)
    assert success_bound(epsilon=0.0, delta=0.0) == 0.5


@pytest.mark.parametrize("arguments", [{"epsilon": -1.0}, {"delta": 1.5}, {"false_positive_rate": 2.0}])
def test_what_is_no_guarantee_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"epsilon|rate"):
        true_positive_bound(**{"epsilon": 1.0, "delta": 0.0, "false_positive_rate": 0.5, **arguments})
