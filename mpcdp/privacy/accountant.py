"""The exact privacy of Gaussian noise, its inverses, and its composition.

Everything is said in terms of mu = sensitivity / standard deviation: a mechanism that adds N(0, sigma^2 I) to a vector
of L2 sensitivity Delta is exactly "mu-Gaussian differentially private" with mu = Delta / sigma, and

    delta(epsilon; mu) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu)

is the smallest delta that holds for the given epsilon.

Source: Balle & Wang 2018 (ICML), Theorem 8; Dong, Roth & Su 2022 (JRSS B), Corollary 2.13 (the curve), Corollary 3.3
(composition, also when each query is chosen after seeing the earlier answers).
"""

import math
from collections.abc import Callable

import numpy as np

__all__ = ["compose", "gaussian_delta", "gaussian_epsilon", "gaussian_mu"]

_MARGIN = 1e-9
"""Relative safety margin of the inverses; the curve itself is computed at least ten times more exactly."""

_GAUSS_POINTS, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(8)


def gaussian_delta(*, epsilon: float, mu: float) -> float:
    """Compute the smallest delta for which a mu-Gaussian mechanism is (epsilon, delta)-private.

    Guarantees:
        Relative error below 1e-10 wherever delta >= 1e-300, 1e-8 <= mu <= 100 and epsilon <= 1000.

    Raises:
        ValueError: mu is not positive and finite, or epsilon is negative or not finite.
    """
    _check(mu=mu, epsilon=epsilon)
    # With a = eps/mu - mu/2 and b = eps/mu + mu/2 we have phi(a) = e^eps phi(b), phi the normal density, so
    #   delta = Q(a) - e^eps Q(b) = phi(a) (m(a) - m(b)),   Q the upper tail, m = Q / phi the Mills ratio:
    # no power of e can overflow, and no two nearly equal tails are subtracted.
    a, b = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    if mu < 0.5:  # m(a) and m(b) agree in their leading digits; their difference is integrated instead
        return density * _mills_ratio_fall(a, b, width=mu)
    if a < 0:  # m(a) may be huge
        return math.erfc(a / math.sqrt(2)) / 2 - density * _mills_ratio(b)
    return density * (_mills_ratio(a) - _mills_ratio(b))


def gaussian_mu(*, epsilon: float, delta: float) -> float:
    """Compute the largest mu that (epsilon, delta) permits.

    Guarantees:
        Rounded to the safe side: the exact curve at the result does not exceed delta, and reaches at least
        (1 - 1e-8) delta.

    Raises:
        ValueError: epsilon is negative or not finite, or delta is not strictly between 0 and 1.
    """
    _check(delta=delta, epsilon=epsilon)
    # delta(eps; mu) >= 2 Phi(mu/2 - eps/mu) - 1, which is near 1 at this mu and grows with mu.
    start = math.sqrt(2 * epsilon) + 20.0
    return _last_true(lambda mu: gaussian_delta(epsilon=epsilon, mu=mu) <= delta * (1 - _MARGIN), start)


def gaussian_epsilon(*, mu: float, delta: float) -> float:
    """Compute the smallest epsilon for which a mu-Gaussian mechanism is (epsilon, delta)-private.

    Guarantees:
        Rounded to the safe side: the exact curve at the result does not exceed delta.

    Raises:
        ValueError: mu is not positive and finite, or delta is not strictly between 0 and 1.
    """
    _check(mu=mu, delta=delta)
    target = delta * (1 - _MARGIN)
    if gaussian_delta(epsilon=0.0, mu=mu) <= target:
        return 0.0
    # delta(eps; mu) <= Q(eps/mu - mu/2) <= exp(-(eps/mu - mu/2)^2 / 2) gives an epsilon that is surely enough.
    enough = mu * (mu / 2 + math.sqrt(2 * math.log(1 / target)))
    low, high = 0.0, enough
    while low < (middle := (low + high) / 2) < high:
        if gaussian_delta(epsilon=middle, mu=mu) <= target:
            high = middle
        else:
            low = middle
    return high


def compose(*, mu: float, rounds: int) -> float:
    """Return the mu of several Gaussian mechanisms of equal mu, later ones chosen freely given earlier releases.

    Source: Dong, Roth & Su 2022, Corollary 3.3: mu_total^2 is the sum of the mu^2, exactly.
    """
    if rounds < 1:
        raise ValueError(f"there is at least one round, not {rounds}")
    return math.sqrt(rounds) * mu


def _mills_ratio(x: float) -> float:
    """Return Q(x) / phi(x) for the standard normal upper tail Q and density phi, x > -1 or so."""
    from scipy.special import erfcx  # imported late: it takes longer than all of mpcdp

    return math.sqrt(math.pi / 2) * float(erfcx(x / math.sqrt(2)))


def _mills_ratio_fall(a: float, b: float, *, width: float) -> float:
    """Compute m(a) - m(b) for b = a + width, width < 0.5, by integrating -m'(x) = 1 - x m(x) with 8 Gauss points."""
    middle = (a + b) / 2
    return (
        width
        / 2
        * math.fsum(
            weight * (1 - x * _mills_ratio(x))
            for x, weight in zip(middle + width / 2 * _GAUSS_POINTS, _GAUSS_WEIGHTS, strict=True)
        )
    )


def _last_true(holds: Callable[[float], bool], start: float) -> float:
    """Return a largest positive float at which a decreasing predicate holds, near ``start`` or below."""
    high = start
    while holds(high):
        high *= 2
    low = high / 2
    while not holds(low):
        low, high = low / 2, low
    while low < (middle := (low + high) / 2) < high:
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _check(*, mu: float | None = None, delta: float | None = None, epsilon: float | None = None) -> None:
    if mu is not None and not (math.isfinite(mu) and mu > 0):
        raise ValueError(f"mu is a positive finite number, not {mu}")
    if epsilon is not None and not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon is a finite number of at least 0, not {epsilon}")
    if delta is not None and not 0 < delta < 1:
        raise ValueError(f"delta lies strictly between 0 and 1, not {delta}")
