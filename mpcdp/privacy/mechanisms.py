"""The two noise mechanisms: what a noise scale costs, and which noise a budget permits.

Noise is added to *integer* vectors (encoded sums), and it is discrete. Why the guarantees of continuous noise hold:

* **Gaussian.** The sampled law is the discrete Gaussian D on the half-integers Z + 1/2, P(y) proportional to
  exp(-y^2 / (2 sigma^2)). Let R be the continuous Gaussian g ~ N(0, sigma^2) rounded to the same lattice,
  floor(g) + 1/2. For an integer x, x + floor(g) + 1/2 = floor(x + g) + 1/2: shifting by an integer and rounding
  commute. So adding R to an integer vector is the Gaussian mechanism followed by rounding, which is post-processing,
  and its privacy is at least the Gaussian curve's. D is so close to R (`rounded_gaussian_distance`) that the
  difference is charged to delta (`distance_to_delta`).
* **Laplace.** The sampled law is P(y) proportional to exp(-|y| / t) on Z + 1/2. An integer shift maps the lattice to
  itself and | |y| - |y - x| | <= |x|, so the ratio of probabilities is at most e^(|x| / t), exactly; over independent
  coordinates the |x_i| add up to the L1 norm. No approximation takes place.

Proofs and the numeric tests of both bounds: ``mpcdp/privacy/README.md``.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from mpcdp.privacy.accountant import compose, gaussian_delta, gaussian_mu
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.sensitivity import Norm, Sensitivity

__all__ = [
    "GaussianMechanism",
    "LaplaceMechanism",
    "Mechanism",
    "distance_to_delta",
    "rounded_gaussian_distance",
]

_ROUND_UP = 1 + 2.0**-40
"""Makes a noise ratio err on the side of more noise, by far more than floating-point error."""


class Mechanism(Protocol):
    """Independent noise of one scale on every coordinate."""

    norm: ClassVar[Norm]
    """The only norm in which a sensitivity is accepted."""

    @property
    def noise_scale(self) -> float:
        """The distribution's scale parameter, in the units of the vector."""
        ...

    def delta(self, sensitivity: Sensitivity, *, epsilon: float, rounds: int) -> float:
        """Compute a delta for which ``rounds`` releases are together (epsilon, delta)-private.

        Args:
            sensitivity: of each release, in the units of the noise scale.
            epsilon: at least 0.
            rounds: number of releases; each query may be chosen after seeing the earlier releases.

        Raises:
            ValueError: the sensitivity is in another norm, or a number is out of range.
        """
        ...

    @staticmethod
    def noise_ratio(budget: PrivacyBudget, *, rounds: int) -> float:
        """Compute the smallest noise scale per unit of sensitivity that a budget permits, rounded up.

        Raises:
            ValueError: the mechanism cannot meet the budget with any noise.
        """
        ...

    @classmethod
    def calibrate(cls, sensitivity: Sensitivity, *, budget: PrivacyBudget, rounds: int) -> Self:
        """Return the mechanism of least noise that keeps ``rounds`` releases within a budget.

        Raises:
            ValueError: the sensitivity is in another norm, or no noise meets the budget.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GaussianMechanism:
    """Add N(0, noise_scale^2) to every coordinate; see the module's text for its discrete form.

    Args:
        noise_scale: standard deviation; positive and finite.

    Source: Balle & Wang 2018, Theorem 8; Dong, Roth & Su 2022, Corollary 3.3.
    """

    norm: ClassVar[Norm] = Norm.L2
    noise_scale: float

    def __post_init__(self) -> None:
        _check_scale(self.noise_scale)

    def delta(self, sensitivity: Sensitivity, *, epsilon: float, rounds: int) -> float:
        """Compute the delta of ``rounds`` releases at an epsilon; exact, not a bound."""
        _check_norm(sensitivity, self.norm)
        return gaussian_delta(epsilon=epsilon, mu=compose(mu=sensitivity.bound / self.noise_scale, rounds=rounds))

    @staticmethod
    def noise_ratio(budget: PrivacyBudget, *, rounds: int) -> float:
        """Compute the smallest standard deviation per unit of L2 sensitivity that a budget permits."""
        return math.sqrt(rounds) / gaussian_mu(epsilon=budget.epsilon, delta=budget.delta) * _ROUND_UP

    @classmethod
    def calibrate(cls, sensitivity: Sensitivity, *, budget: PrivacyBudget, rounds: int) -> Self:
        """Return the Gaussian mechanism of least noise that keeps ``rounds`` releases within a budget."""
        _check_norm(sensitivity, cls.norm)
        return cls(noise_scale=sensitivity.bound * cls.noise_ratio(budget, rounds=rounds))


@dataclass(frozen=True, kw_only=True)
class LaplaceMechanism:
    """Add noise of density proportional to exp(-|y| / noise_scale) to every coordinate, independently.

    Args:
        noise_scale: t; the standard deviation is sqrt(2) t. Positive and finite.

    Source: Dwork, McSherry, Nissim & Smith 2006 (TCC), Section 3; basic composition over rounds.
    """

    norm: ClassVar[Norm] = Norm.L1
    noise_scale: float

    def __post_init__(self) -> None:
        _check_scale(self.noise_scale)

    def pure_epsilon(self, sensitivity: Sensitivity, *, rounds: int) -> float:
        """Compute the epsilon at which ``rounds`` releases need no delta: rounds * sensitivity / noise_scale."""
        _check_norm(sensitivity, self.norm)
        _check_rounds(rounds)
        return rounds * sensitivity.bound / self.noise_scale

    def delta(self, sensitivity: Sensitivity, *, epsilon: float, rounds: int) -> float:
        """Compute a delta of ``rounds`` releases at an epsilon: 0 from their pure epsilon on.

        Below the pure epsilon e0 this is (e^e0 - e^epsilon) / (1 + e^e0), that of randomised response, which is the
        worst mechanism of its e0.

        Source: Kairouz, Oh & Viswanath 2015 (ICML), Theorem 2.
        """
        pure = self.pure_epsilon(sensitivity, rounds=rounds)
        if pure <= epsilon:
            return 0.0
        return -math.expm1(epsilon - pure) / (1 + math.exp(-pure))

    @staticmethod
    def noise_ratio(budget: PrivacyBudget, *, rounds: int) -> float:
        """Compute the smallest scale per unit of L1 sensitivity at which the budget's epsilon needs no delta."""
        _check_rounds(rounds)
        if budget.epsilon <= 0:
            raise ValueError("no Laplace noise gives epsilon = 0")
        return rounds / budget.epsilon * _ROUND_UP

    @classmethod
    def calibrate(cls, sensitivity: Sensitivity, *, budget: PrivacyBudget, rounds: int) -> Self:
        """Return the Laplace mechanism of least noise whose ``rounds`` releases need no delta at the epsilon."""
        _check_norm(sensitivity, cls.norm)
        return cls(noise_scale=sensitivity.bound * cls.noise_ratio(budget, rounds=rounds))


def rounded_gaussian_distance(*, noise_scale: float, samples: int) -> float:
    """Bound the total variation between discrete and rounded continuous Gaussian noise over a whole session.

    Per sample the Kullback-Leibler divergence is at most 0.0018 / sigma^4; it adds up over independent samples and over
    adaptively chosen rounds, and Pinsker's inequality turns the sum into 0.03 sqrt(samples) / sigma^2. (Adding up
    total variations, about 0.0202 / sigma^2 each, would grow like ``samples`` instead of its root.)

    Args:
        noise_scale: sigma in lattice units, at least 4.
        samples: number of independent noise values d * T; at least 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if not (math.isfinite(noise_scale) and noise_scale >= 4):
        raise ValueError(f"the bound holds from a scale of 4 lattice units on, not for {noise_scale}")
    if samples < 1:
        raise ValueError(f"there is at least one sample, not {samples}")
    return 0.03 * math.sqrt(samples) / noise_scale**2


def distance_to_delta(distance: float, *, epsilon: float) -> float:
    """Compute what it adds to delta that outputs are within a total variation of an (epsilon, delta)-private law.

    With eta the distance, P(S) <= P'(S) + eta <= e^eps Q'(S) + delta + eta <= e^eps (Q(S) + eta) + delta + eta: the
    addition is (1 + e^eps) eta.

    Raises:
        ValueError: the distance is negative, or epsilon is negative or not finite.
    """
    if not (distance >= 0 and math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"distance and epsilon are finite and at least 0, not {distance} and {epsilon}")
    return (1 + math.exp(epsilon)) * distance


def _check_norm(sensitivity: Sensitivity, norm: Norm) -> None:
    if sensitivity.norm is not norm:
        raise ValueError(f"this mechanism needs an {norm.value} sensitivity, not one of norm {sensitivity.norm.value}")


def _check_scale(noise_scale: float) -> None:
    if not (math.isfinite(noise_scale) and noise_scale > 0):
        raise ValueError(f"a noise scale is a positive finite number, not {noise_scale}")


def _check_rounds(rounds: int) -> None:
    if rounds < 1:
        raise ValueError(f"there is at least one round, not {rounds}")
