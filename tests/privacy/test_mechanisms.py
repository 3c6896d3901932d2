"""The mechanisms, and the exact laws behind their discrete forms."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import MPContext
from numpy.typing import NDArray

from mpcdp.privacy.accountant import gaussian_delta
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.mechanisms import (
    GaussianMechanism,
    LaplaceMechanism,
    distance_to_delta,
    rounded_gaussian_distance,
)
from mpcdp.privacy.sensitivity import Norm, Sensitivity

_MP = MPContext()
_MP.dps = 50

_L1 = Sensitivity(norm=Norm.L1, bound=3.0)
_L2 = Sensitivity(norm=Norm.L2, bound=3.0)
_BUDGETS = st.builds(
    PrivacyBudget, epsilon=st.floats(0.01, 50), delta=st.floats(-12, -2).map(lambda exponent: 10**exponent)
)
_Law = dict[int, Any]  # key k stands for the half-integer k + 1/2


@cache
def _discrete_gaussian(sigma: float) -> _Law:
    law = {k: _MP.exp(-((k + _MP.mpf(0.5)) ** 2) / (2 * sigma**2)) for k in _support(sigma)}
    total = _MP.fsum(law.values())
    return {k: mass / total for k, mass in law.items()}


@cache
def _rounded_gaussian(sigma: float) -> _Law:
    """Law of floor(g) + 1/2 for g ~ N(0, sigma^2)."""
    return {k: _interval(k / _MP.mpf(sigma), (k + 1) / _MP.mpf(sigma)) for k in _support(sigma)}


def _interval(low: Any, high: Any) -> Any:
    """Compute Phi(high) - Phi(low), from the nearer tail so that no digits cancel."""
    return _MP.ncdf(-low) - _MP.ncdf(-high) if low >= 0 else _MP.ncdf(high) - _MP.ncdf(low)


@cache
def _discrete_laplace(scale: float) -> _Law:
    law = {k: _MP.exp(-abs(k + _MP.mpf(0.5)) / scale) for k in range(-60 * math.ceil(scale), 60 * math.ceil(scale))}
    total = _MP.fsum(law.values())
    return {k: mass / total for k, mass in law.items()}


def _support(sigma: float) -> range:
    edge = math.ceil(15 * sigma)  # what is cut off has mass 1e-50
    return range(-edge, edge)


def _delta(law: _Law, *, shift: int, epsilon: float) -> float:
    """Compute the smallest delta of adding this noise to integers that differ by ``shift``."""
    factor = _MP.exp(epsilon)
    return float(_MP.fsum(max(mass - factor * law.get(k + shift, 0), 0) for k, mass in law.items()))


# -- budgets ---------------------------------------------------------------------------------------------------------


def test_gaussian_accepts_only_l2() -> None:
    mechanism = GaussianMechanism(noise_scale=1.0)
    with pytest.raises(ValueError, match="L2"):
        mechanism.delta(_L1, epsilon=1.0, rounds=1)
    with pytest.raises(ValueError, match="L2"):
        GaussianMechanism.calibrate(_L1, budget=PrivacyBudget(epsilon=1.0, delta=1e-6), rounds=1)


def test_laplace_accepts_only_l1() -> None:
    mechanism = LaplaceMechanism(noise_scale=1.0)
    with pytest.raises(ValueError, match="L1"):
        mechanism.delta(_L2, epsilon=1.0, rounds=1)
    with pytest.raises(ValueError, match="L1"):
        LaplaceMechanism.calibrate(_L2, budget=PrivacyBudget(epsilon=1.0, delta=1e-6), rounds=1)


@given(budget=_BUDGETS, rounds=st.integers(1, 2000))
def test_calibrated_gaussian_meets_the_budget_tightly(budget: PrivacyBudget, rounds: int) -> None:
    mechanism = GaussianMechanism.calibrate(_L2, budget=budget, rounds=rounds)
    delta = mechanism.delta(_L2, epsilon=budget.epsilon, rounds=rounds)
    assert 0.999 * budget.delta < delta <= budget.delta


@given(budget=_BUDGETS, rounds=st.integers(1, 2000))
def test_a_smaller_gaussian_exceeds_the_budget(budget: PrivacyBudget, rounds: int) -> None:
    scale = GaussianMechanism.calibrate(_L2, budget=budget, rounds=rounds).noise_scale / 1.3
    delta = GaussianMechanism(noise_scale=scale).delta(_L2, epsilon=budget.epsilon, rounds=rounds)
    assert delta > 1.3 * budget.delta


@given(budget=_BUDGETS, rounds=st.integers(1, 2000))
def test_calibrated_laplace_needs_no_delta_and_no_more_noise(budget: PrivacyBudget, rounds: int) -> None:
    mechanism = LaplaceMechanism.calibrate(_L1, budget=budget, rounds=rounds)
    assert mechanism.delta(_L1, epsilon=budget.epsilon, rounds=rounds) == 0
    assert mechanism.pure_epsilon(_L1, rounds=rounds) > 0.999 * budget.epsilon
    smaller = LaplaceMechanism(noise_scale=mechanism.noise_scale / 1.3)
    assert smaller.delta(_L1, epsilon=budget.epsilon, rounds=rounds) > 1e-4


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("mechanism", [GaussianMechanism, LaplaceMechanism])
def test_noise_scale_out_of_range(mechanism: Callable[..., object], scale: float) -> None:
    with pytest.raises(ValueError, match="noise scale"):
        mechanism(noise_scale=scale)


def test_no_laplace_noise_gives_epsilon_zero() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        LaplaceMechanism.noise_ratio(PrivacyBudget(epsilon=0.0, delta=0.1), rounds=1)


# -- discrete Laplace: pure epsilon, no approximation ----------------------------------------------------------------


@pytest.mark.parametrize("shift", [1, 2, 7])
def test_laplace_on_half_integers_is_pure_epsilon(shift: int) -> None:
    """The largest log-ratio is shift / t exactly: attained, never exceeded."""
    scale = 5.0
    law = _discrete_laplace(scale)
    worst = max(_MP.log(mass / law[k + shift]) for k, mass in law.items() if k + shift in law)
    assert abs(worst - _MP.mpf(shift) / scale) < 1e-40


def test_laplace_delta_below_the_pure_epsilon_is_an_upper_bound() -> None:
    mechanism = LaplaceMechanism(noise_scale=5.0)
    for epsilon in (0.0, 0.1, 0.3, 0.59):
        exact = _delta(_discrete_laplace(5.0), shift=3, epsilon=epsilon)
        assert 0 < exact <= mechanism.delta(_L1, epsilon=epsilon, rounds=1)


# -- discrete Gaussian: next to a rounded continuous one -------------------------------------------------------------


@pytest.mark.parametrize("sigma", [4.0, 8.0, 16.0, 24.0])
def test_kl_of_discrete_and_rounded_gaussian(sigma: float) -> None:
    """At most 0.0018 / sigma^4, tight within 5 %: sigma^4 KL tends to 1/576."""
    discrete, rounded = _discrete_gaussian(sigma), _rounded_gaussian(sigma)
    kl = _MP.fsum(mass * _MP.log(mass / discrete[k]) for k, mass in rounded.items())
    assert 0.95 * 0.0018 < kl * sigma**4 <= 0.0018
    assert kl * sigma**4 == pytest.approx(1 / 576, rel=0.1 / sigma**2)


@pytest.mark.parametrize("sigma", [4.0, 8.0, 16.0, 24.0])
def test_total_variation_of_discrete_and_rounded_gaussian(sigma: float) -> None:
    """At most 0.021 / sigma^2, tight within 5 %; and within what Pinsker's inequality makes of the KL bound."""
    discrete, rounded = _discrete_gaussian(sigma), _rounded_gaussian(sigma)
    distance = _MP.fsum(abs(mass - discrete[k]) for k, mass in rounded.items()) / 2
    assert 0.95 * 0.021 < distance * sigma**2 <= 0.021
    assert distance <= rounded_gaussian_distance(noise_scale=sigma, samples=1)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_total_variation_of_several_samples_grows_like_the_root(samples: int) -> None:
    sigma = 4.0
    keys = [k for k in _support(sigma) if abs(k) < 9 * sigma]
    discrete = np.array([float(_discrete_gaussian(sigma)[k]) for k in keys])
    rounded = np.array([float(_rounded_gaussian(sigma)[k]) for k in keys])
    distance = np.abs(_power(discrete, samples) - _power(rounded, samples)).sum() / 2
    bound = rounded_gaussian_distance(noise_scale=sigma, samples=samples)
    assert 0.6 * bound < distance <= bound


def _power(law: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    joint = law
    for _ in range(count - 1):
        joint = np.multiply.outer(joint, law).ravel()
    return joint


@pytest.mark.parametrize("sigma", [4.0, 8.0, 16.0])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
def test_rounding_a_gaussian_is_post_processing(sigma: float, ratio: float) -> None:
    """Rounded continuous noise on integers never costs more than the curve; with 1.3 times less noise it does."""
    shift = round(ratio * sigma)
    for epsilon in (0.1, 0.5, 1.0):
        curve = gaussian_delta(epsilon=epsilon, mu=shift / sigma)
        assert _delta(_rounded_gaussian(sigma), shift=shift, epsilon=epsilon) <= curve * (1 + 1e-10)
    assert _delta(_rounded_gaussian(sigma / 1.3), shift=shift, epsilon=0.5) > gaussian_delta(
        epsilon=0.5, mu=shift / sigma
    )


@pytest.mark.parametrize("sigma", [4.0, 8.0, 16.0])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0])
def test_discrete_gaussian_costs_the_curve_plus_its_distance(sigma: float, ratio: float) -> None:
    """The plan's accounting, checked on the exact law; with 1.3 times less noise it fails."""
    shift = round(ratio * sigma)
    for epsilon in (0.1, 0.5, 1.0):
        distance = rounded_gaussian_distance(noise_scale=sigma, samples=1)
        claimed = gaussian_delta(epsilon=epsilon, mu=shift / sigma) + distance_to_delta(distance, epsilon=epsilon)
        assert _delta(_discrete_gaussian(sigma), shift=shift, epsilon=epsilon) <= claimed
        if sigma == 16.0 and epsilon < 1:  # elsewhere the distance's allowance hides a wrong scale
            assert _delta(_discrete_gaussian(sigma / 1.3), shift=shift, epsilon=epsilon) > claimed


@pytest.mark.parametrize(("noise_scale", "samples"), [(3.9, 1), (math.nan, 1), (math.inf, 1), (4.0, 0)])
def test_distance_bound_is_not_claimed_where_it_was_not_proved(noise_scale: float, samples: int) -> None:
    with pytest.raises(ValueError, match=r"scale|sample"):
        rounded_gaussian_distance(noise_scale=noise_scale, samples=samples)


# -- total variation and delta ---------------------------------------------------------------------------------------


@given(data=st.data(), epsilon=st.floats(0, 3))
def test_distance_adds_to_delta_as_the_lemma_says(data: st.DataObject, epsilon: float) -> None:
    """Four laws on six points: (P', Q') is (eps, delta)-close, P and Q are within eta of them."""
    laws = st.lists(st.floats(0.01, 1), min_size=6, max_size=6)
    ideal_p, ideal_q, p, q = (np.array(data.draw(laws)) for _ in range(4))
    ideal_p, ideal_q, p, q = (law / law.sum() for law in (ideal_p, ideal_q, p, q))
    eta = max(np.abs(p - ideal_p).sum(), np.abs(q - ideal_q).sum()) / 2
    ideal = np.maximum(ideal_p - math.exp(epsilon) * ideal_q, 0).sum()
    assert np.maximum(p - math.exp(epsilon) * q, 0).sum() <= ideal + distance_to_delta(eta, epsilon=epsilon) + 1e-12


def test_distance_lemma_is_attained() -> None:
    """P' = Q' = (1/2, 1/2), eps near 0: P moves eta to the first point, Q moves eta away from it."""
    eta, epsilon = 0.1, 1e-9
    p, q = np.array([0.5 + eta, 0.5 - eta]), np.array([0.5 - eta, 0.5 + eta])
    assert np.maximum(p - math.exp(epsilon) * q, 0).sum() == pytest.approx(distance_to_delta(eta, epsilon=epsilon))


@pytest.mark.parametrize(("distance", "epsilon"), [(-0.1, 1.0), (math.nan, 1.0), (0.1, -1.0), (0.1, math.inf)])
def test_distance_out_of_range(distance: float, epsilon: float) -> None:
    with pytest.raises(ValueError, match="distance"):
        distance_to_delta(distance, epsilon=epsilon)
