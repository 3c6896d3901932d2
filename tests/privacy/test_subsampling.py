"""The cost of rounds over samples of the records, against accountants of another make."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.stats import norm

from mpcdp.privacy.accountant import gaussian_delta
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.sensitivity import Norm, Sensitivity
from mpcdp.privacy.subsampling import SubsampledGaussianMechanism, subsampled_gaussian_delta


def _densities(x: NDArray[np.float64], *, multiplier: float, rate: float) -> tuple[NDArray[np.float64], ...]:
    """The two mixtures of one round, c = 1."""
    center, plus, minus = (norm.pdf(x, loc=where, scale=multiplier) for where in (0.0, 1.0, -1.0))
    return (1 - rate) * center + rate * plus, (1 - rate) * center + rate * minus


def _delta_by_integration(*, epsilon: float, multiplier: float, rate: float) -> float:
    """One round's hockey-stick divergence, by the trapezoidal rule."""
    x = np.linspace(-40 * multiplier - 1, 40 * multiplier + 1, 2_000_001)
    p, q = _densities(x, multiplier=multiplier, rate=rate)
    return float(np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), x))


def _delta_by_convolution(*, epsilon: float, multiplier: float, rate: float, rounds: int) -> float:
    """Several rounds' hockey-stick divergence, by convolving the privacy loss on a fine grid: no package involved."""
    x = np.linspace(-14 * multiplier - 1, 14 * multiplier + 1, 400_001)
    p, q = _densities(x, multiplier=multiplier, rate=rate)
    mass = p / p.sum()
    loss = np.log(p / q)
    width, reach = 2e-4, 12.0
    cells = np.rint((np.clip(loss, -reach, reach) + reach) / width).astype(np.int64)
    one = np.bincount(cells, weights=mass, minlength=2 * round(reach / width) + 1)
    total, start = np.array([1.0]), 0.0
    for _ in range(rounds):
        total = np.maximum(fftconvolve(total, one), 0)
        start -= reach
    losses = start + width * np.arange(len(total))
    above = losses > epsilon
    return float(np.sum(total[above] * -np.expm1(epsilon - losses[above])))


@pytest.mark.parametrize("multiplier", [0.7, 2.0, 10.0])
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_one_round_agrees_with_integration(multiplier: float, rate: float) -> None:
    for epsilon in (0.05, 0.5):
        exact = _delta_by_integration(epsilon=epsilon, multiplier=multiplier, rate=rate)
        bound = subsampled_gaussian_delta(epsilon=epsilon, multiplier=multiplier, sampling_rate=rate, rounds=1)
        assert exact <= bound * (1 + 1e-9) + 1e-13
        assert bound <= exact * 1.02 + 1e-9


@pytest.mark.parametrize(("multiplier", "rate", "rounds"), [(2.0, 0.1, 10), (4.0, 0.25, 20)])
def test_several_rounds_agree_with_a_convolution(multiplier: float, rate: float, rounds: int) -> None:
    for epsilon in (0.3, 1.0):
        convolved = _delta_by_convolution(epsilon=epsilon, multiplier=multiplier, rate=rate, rounds=rounds)
        bound = subsampled_gaussian_delta(epsilon=epsilon, multiplier=multiplier, sampling_rate=rate, rounds=rounds)
        assert bound == pytest.approx(convolved, rel=0.03, abs=1e-9)


@pytest.mark.parametrize("rounds", [1, 10, 200])
def test_at_rate_one_it_is_the_gaussian_curve(rounds: int) -> None:
    """Replacement moves by 2 c: mu = 2 sqrt(T) / multiplier."""
    multiplier = 8.0 * math.sqrt(rounds)
    for epsilon in (0.2, 1.0):
        exact = gaussian_delta(epsilon=epsilon, mu=2 * math.sqrt(rounds) / multiplier)
        bound = subsampled_gaussian_delta(epsilon=epsilon, multiplier=multiplier, sampling_rate=1.0, rounds=rounds)
        assert exact <= bound * (1 + 1e-9)
        assert bound <= exact * 1.02 + 1e-12


def test_the_relation_that_adds_or_removes_a_record_would_promise_far_too_much() -> None:
    event = PoissonSampledDpEvent(0.1, GaussianDpEvent(1.5))
    other = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE)
    other.compose(event, 100)
    ours = subsampled_gaussian_delta(epsilon=4.0, multiplier=1.5, sampling_rate=0.1, rounds=100)
    assert ours > 100 * other.get_delta(4.0)


@pytest.mark.parametrize(("rate", "rounds"), [(0.01, 1000), (0.1, 100), (0.5, 30)])
def test_calibration_meets_the_budget_and_is_tight(rate: float, rounds: int) -> None:
    budget = PrivacyBudget(epsilon=1.0, delta=1e-6)
    probe = SubsampledGaussianMechanism(noise_scale=1.0, sampling_rate=rate)
    ratio = probe.noise_ratio(budget, rounds=rounds)
    sensitivity = Sensitivity(norm=Norm.L2, bound=0.6)

    def delta(factor: float) -> float:
        mechanism = SubsampledGaussianMechanism(noise_scale=factor * ratio * sensitivity.bound, sampling_rate=rate)
        return mechanism.delta(sensitivity, epsilon=budget.epsilon, rounds=rounds)

    assert delta(1.0) <= budget.delta
    assert delta(0.995) > budget.delta
    assert delta(1 / 1.3) > 2 * budget.delta


def test_a_laplace_sensitivity_and_senseless_numbers_are_refused() -> None:
    mechanism = SubsampledGaussianMechanism(noise_scale=1.0, sampling_rate=0.5)
    with pytest.raises(ValueError, match="L2"):
        mechanism.delta(Sensitivity(norm=Norm.L1, bound=1.0), epsilon=1.0, rounds=1)
    for scale, rate in ((0.0, 0.5), (1.0, 0.0), (1.0, 1.0), (math.inf, 0.5)):
        with pytest.raises(ValueError, match="noise scale"):
            SubsampledGaussianMechanism(noise_scale=scale, sampling_rate=rate)
