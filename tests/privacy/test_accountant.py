"""The Gaussian curve and its inverses, against 60-digit arithmetic."""

import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpmath import MPContext

from mpcdp.privacy.accountant import compose, gaussian_delta, gaussian_epsilon, gaussian_mu

_MP = MPContext()
_MP.dps = 60

_EPSILONS = st.floats(0, 500)
_DELTAS = st.floats(-12, -0.01).map(lambda exponent: 10**exponent)


def _curve(epsilon: float, mu: float) -> Any:
    """Compute delta(eps; mu) as the formula stands, with 60 digits."""
    eps, m = _MP.mpf(epsilon), _MP.mpf(mu)
    return _MP.ncdf(m / 2 - eps / m) - _MP.exp(eps) * _MP.ncdf(-m / 2 - eps / m)


@given(epsilon=_EPSILONS, mu=st.floats(-3, 2).map(lambda exponent: 10**exponent))
@settings(max_examples=200)
def test_gaussian_curve_is_exact(epsilon: float, mu: float) -> None:
    exact = _curve(epsilon, mu)
    assume(exact > 1e-300)
    assert abs(gaussian_delta(epsilon=epsilon, mu=mu) / exact - 1) < 1e-10


@given(epsilon_per_mu=st.floats(0, 36), mu=st.floats(-8, 0).map(lambda exponent: 10**exponent))
@settings(max_examples=200)
def test_gaussian_curve_is_exact_for_small_mu(epsilon_per_mu: float, mu: float) -> None:
    epsilon = epsilon_per_mu * mu
    exact = _curve(epsilon, mu)
    assume(exact > 1e-300)
    assert abs(gaussian_delta(epsilon=epsilon, mu=mu) / exact - 1) < 1e-10


@pytest.mark.parametrize(("epsilon", "mu"), [(0.1, 0.5), (1.0, 1.0), (3.0, 2.0)])
def test_gaussian_curve_is_the_worst_event_of_two_gaussians(epsilon: float, mu: float) -> None:
    """delta = sup_S P(S) - e^eps Q(S) = integral of (p - e^eps q)+, for P = N(mu, 1) and Q = N(0, 1)."""

    def excess(x: Any) -> Any:
        return max(_MP.npdf(x - mu) - _MP.exp(epsilon) * _MP.npdf(x), _MP.zero)

    edge = epsilon / mu + mu / 2  # where p = e^eps q
    assert gaussian_delta(epsilon=epsilon, mu=mu) == pytest.approx(float(_MP.quad(excess, [edge, edge + 4, 20])))


@given(epsilon=_EPSILONS, delta=_DELTAS)
@settings(max_examples=60)
def test_mu_is_rounded_to_the_safe_side_and_tight(epsilon: float, delta: float) -> None:
    mu = gaussian_mu(epsilon=epsilon, delta=delta)
    assert delta * (1 - 1e-8) <= _curve(epsilon, mu) <= delta


@given(mu=st.floats(0.01, 30), delta=_DELTAS)
@settings(max_examples=60)
def test_epsilon_is_rounded_to_the_safe_side_and_tight(mu: float, delta: float) -> None:
    epsilon = gaussian_epsilon(mu=mu, delta=delta)
    assert _curve(epsilon, mu) <= delta
    assert epsilon == 0 or _curve(epsilon * (1 - 1e-6), mu) > delta * (1 - 1e-8)


def test_known_value() -> None:
    # Balle & Wang's own program: sigma = 3.7306 for epsilon = 1, delta = 1e-5, sensitivity 1.
    assert 1 / gaussian_mu(epsilon=1.0, delta=1e-5) == pytest.approx(3.7306, abs=1e-4)


@pytest.mark.parametrize(("delta", "gain"), [(1e-3, 1.61), (1e-5, 1.36)])
def test_gain_over_the_papers_theorem(delta: float, gain: float) -> None:
    """Jayaraman et al., Theorem 3.4: sigma / Delta = sqrt(2 T log(1/delta)) / epsilon, at epsilon = 0.5."""
    paper = math.sqrt(2 * math.log(1 / delta)) / 0.5
    assert paper * gaussian_mu(epsilon=0.5, delta=delta) == pytest.approx(gain, abs=0.01)


def test_rounds_compose_like_one_release_of_longer_vectors() -> None:
    """T releases of sensitivity Delta are one release of T d coordinates, of sensitivity sqrt(T) Delta."""
    assert compose(mu=0.3, rounds=16) == pytest.approx(1.2)
    # (0.3, 16 rounds) by basic composition of epsilons would cost far more.
    once = gaussian_epsilon(mu=0.3, delta=1e-6 / 16)
    assert gaussian_epsilon(mu=compose(mu=0.3, rounds=16), delta=1e-6) < 16 * once / 3


def test_tiny_and_huge_arguments_do_not_overflow() -> None:
    assert gaussian_delta(epsilon=1000.0, mu=0.01) == 0.0
    assert gaussian_delta(epsilon=0.0, mu=1000.0) == 1.0
    assert 0 < gaussian_mu(epsilon=700.0, delta=1e-300) < math.sqrt(2 * 700)


@pytest.mark.parametrize("mu", [0.0, -1.0, math.inf, math.nan])
def test_mu_out_of_range(mu: float) -> None:
    with pytest.raises(ValueError, match="mu"):
        gaussian_delta(epsilon=1.0, mu=mu)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-9, math.nan])
def test_delta_out_of_range(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        gaussian_mu(epsilon=1.0, delta=delta)
    with pytest.raises(ValueError, match="delta"):
        gaussian_epsilon(mu=1.0, delta=delta)


@pytest.mark.parametrize("epsilon", [-0.1, math.inf, math.nan])
def test_epsilon_out_of_range(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        gaussian_mu(epsilon=epsilon, delta=0.1)


def test_no_round_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="round"):
        compose(mu=1.0, rounds=0)
