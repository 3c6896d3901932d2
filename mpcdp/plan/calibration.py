"""How fine the encoding may be: from a budget to a scale, and from a scale to the exact cost.

**Calibration lives in the encoding.** The noise is one fixed distribution of scale sigma* (Gaussian) or t* (Laplace) in
ring units; `mpcdp.mpc.noise` samples nothing else. What is chosen is the scale s of the encoding x -> round(s x), ring
units per real unit, so that the noise has the size the budget asks for: sigma*/s in real units. With Delta_2 the L2
sensitivity of the sum of contributions, R a bound on every contribution's norm, and u = 2^-53, the *encoded* sum has

    Gaussian:  Delta_int = s (Delta_2 + 2 u R) + sqrt(d)                      L2
    Laplace:   Delta_int = sqrt(d) s (Delta_2 + 2 u R) + d                    L1

because one record changes one owner's contribution only, and rounding moves each of its d coordinates by at most 1/2 on
either side (`mpcdp.secret_sharing.fixed_point.Encoding`).

**What a session costs.** T rounds, d coordinates, eps as asked; delta has three terms:

    mechanism       Gaussian: delta(eps; mu), mu = sqrt(T) Delta_int / sigma*, the exact curve; Laplace: 0; with a
                    sample of the records in every round: `mpcdp.privacy.subsampling`, Delta_int with 2 sqrt(d)
    circuit         (1 + e^eps) d T TV: the sampled law against the exact discrete one (`UniversalNoise`)
    discretisation  Gaussian: (1 + e^eps) 0.03 sqrt(d T) / sigma*^2: the discrete law against a rounded continuous one

The noise y lies on Z + 1/2 and what is shared is the integer y - 1/2; adding the public 1/2 after the reveal is
post-processing. A continuous Gaussian g rounded to Z + 1/2 and added to an integer x is floor(x + g) + 1/2: integer
shifts commute with rounding, so it is post-processing of the Gaussian mechanism and every theorem about that one holds.
The discrete Laplace on Z + 1/2 needs no such step. Proofs: ``mpcdp/privacy/README.md``.
"""

import math
from dataclasses import dataclass

from mpcdp.errors import PlanError
from mpcdp.mpc.noise import Distribution, UniversalNoise, universal_noise
from mpcdp.privacy.accountant import compose, gaussian_epsilon
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.mechanisms import (
    GaussianMechanism,
    LaplaceMechanism,
    distance_to_delta,
    rounded_gaussian_distance,
)
from mpcdp.privacy.sensitivity import Norm, Sensitivity
from mpcdp.privacy.subsampling import SubsampledGaussianMechanism
from mpcdp.secret_sharing.fixed_point import FLOAT_EPSILON

__all__ = ["Calibration", "DeltaTerms", "rounded_down", "rounded_up"]

_LARGEST_ROUNDING_SHARE = 0.1
"""More of the integer sensitivity than this is not spent on rounding: it buys noise and no accuracy."""

_LARGEST_SAMPLER_SHARE = 0.5
"""More of delta than this is not left to the sampler; above, a larger epsilon would even need *more* noise."""

_SIGNIFICANT_BITS = 24
"""Kept of public constants, so that processes whose mathematics libraries differ in the last bits agree exactly."""

_FINER = 'privacy.noise = "per-party" (a finer lattice, but k copies of the noise)'


@dataclass(frozen=True, kw_only=True)
class DeltaTerms:
    """What a plan's delta consists of; see the module's text.

    Args:
        mechanism: of the ideal mechanism at this epsilon.
        circuit: for the sampled law's distance from the exact discrete one.
        discretisation: for the discrete Gaussian's distance from a rounded continuous one.
    """

    mechanism: float
    circuit: float
    discretisation: float

    @property
    def total(self) -> float:
        """The plan's delta."""
        return self.mechanism + self.circuit + self.discretisation


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The relation between an encoding's scale and what a session costs; see the module's text.

    Args:
        distribution: of the noise.
        noise: the universal noise of that distribution.
        dimension: d.
        rounds: T.
        sensitivity: Delta_2: L2, of one round's sum, real units.
        bound: R, the largest norm of a contribution, real units.
        sampling_rate: q, the probability of each record to take part in a round; below 1 with Gaussian noise only.

    Raises:
        ValueError: the sensitivity is in another norm, or Laplace noise meets a sampling rate below 1.
    """

    distribution: Distribution
    noise: UniversalNoise
    dimension: int
    rounds: int
    sensitivity: Sensitivity
    bound: float
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.sampling_rate < 1 and self.distribution != "gaussian":
            raise ValueError("sub-sampling is accounted for with Gaussian noise only")
        if self.sensitivity.norm is not Norm.L2:
            raise ValueError(f"a method states an L2 sensitivity, not one of norm {self.sensitivity.norm.value}")

    @property
    def _mechanism(self) -> GaussianMechanism | LaplaceMechanism | SubsampledGaussianMechanism:
        if self.distribution == "laplace":
            return LaplaceMechanism(noise_scale=self.noise.scale)
        if self.sampling_rate < 1:
            return SubsampledGaussianMechanism(noise_scale=self.noise.scale, sampling_rate=self.sampling_rate)
        return GaussianMechanism(noise_scale=self.noise.scale)

    @property
    def _rounding(self) -> float:
        """What rounding adds to the integer sensitivity.

        With a sample, one record's term is measured against the sum without it: rounding counts for each of the two.
        """
        if self.distribution == "laplace":
            return float(self.dimension)
        return (2 if self.sampling_rate < 1 else 1) * math.sqrt(self.dimension)

    @property
    def _slope(self) -> float:
        """Integer sensitivity per unit of scale, the product's floating-point error included."""
        exact = Sensitivity(
            norm=Norm.L2,
            bound=self.sensitivity.bound + 2 * FLOAT_EPSILON * self.bound,
            relation=self.sensitivity.relation,
        )
        return exact.to_l1(dimension=self.dimension).bound if self.distribution == "laplace" else exact.bound

    def integer_sensitivity(self, scale: float) -> Sensitivity:
        """Bound how far one record moves an encoded sum, ring units."""
        return Sensitivity(
            norm=self._mechanism.norm,
            bound=scale * self._slope + self._rounding,
            relation=self.sensitivity.relation,
        )

    def delta_terms(self, scale: float, *, epsilon: float) -> DeltaTerms:
        """Compute what a session costs at an epsilon, forward from the scale."""
        sensitivity = self.integer_sensitivity(scale)
        circuit, discretisation = self._sampler_deltas(epsilon)
        return DeltaTerms(
            mechanism=self._mechanism.delta(sensitivity, epsilon=epsilon, rounds=self.rounds),
            circuit=circuit,
            discretisation=discretisation,
        )

    def solve(self, budget: PrivacyBudget) -> float:
        """Find the largest scale within a budget.

        Raises:
            PlanError: there is none, or rounding would take too much of the sensitivity.
        """
        sampler_delta = sum(self._sampler_deltas(budget.epsilon))
        if sampler_delta > _LARGEST_SAMPLER_SHARE * budget.delta:
            raise PlanError(self._too_little_delta(sampler_delta, budget))
        left = PrivacyBudget(epsilon=budget.epsilon, delta=budget.delta - sampler_delta)
        permitted = self.noise.scale / self._mechanism.noise_ratio(left, rounds=self.rounds)
        if self._rounding > _LARGEST_ROUNDING_SHARE * permitted:
            raise PlanError(self._too_much_rounding(permitted, delta=left.delta))
        return rounded_down((permitted - self._rounding) / self._slope)

    def _sampler_deltas(self, epsilon: float) -> tuple[float, float]:
        """Compute the delta terms of circuit and discretisation."""
        samples = self.dimension * self.rounds
        circuit = distance_to_delta(samples * self.noise.total_variation, epsilon=epsilon)
        if self.distribution == "laplace":
            return circuit, 0.0
        distance = rounded_gaussian_distance(noise_scale=self.noise.scale, samples=samples)
        return circuit, distance_to_delta(distance, epsilon=epsilon)

    @property
    def _has_finer_noise(self) -> bool:
        return self.noise.scale < universal_noise(self.distribution, "per-party").scale

    def _too_little_delta(self, sampler_delta: float, budget: PrivacyBudget) -> str:
        cures = [f"ask for delta >= {2.1 * sampler_delta:.2g}"]
        affordable = _LARGEST_SAMPLER_SHARE * budget.delta / (sum(self._sampler_deltas(0.0)) / 2)  # of 1 + e^epsilon
        if affordable > 2:
            cures.append(f"epsilon <= {0.99 * math.log(affordable - 1):.3g}")
        if self._has_finer_noise:
            cures.append(_FINER)
        return (
            f"privacy.delta: the sampler's own error costs {sampler_delta:.2g} at epsilon = {budget.epsilon:g}, more "
            f"than half of the {budget.delta:g} asked; {', or '.join(cures)}"
        )

    def _too_much_rounding(self, permitted: float, *, delta: float) -> str:
        wanted = self._rounding / _LARGEST_ROUNDING_SHARE
        if self.distribution == "laplace":
            dimension, epsilon = _LARGEST_ROUNDING_SHARE * permitted, self.rounds * wanted / self.noise.scale
        else:
            dimension = (_LARGEST_ROUNDING_SHARE * permitted) ** 2
            epsilon = gaussian_epsilon(mu=compose(mu=wanted / self.noise.scale, rounds=self.rounds), delta=delta)
        other = f", or {_FINER}" if self._has_finer_noise else ""
        return (
            f"privacy: rounding {self.dimension} coordinates takes {self._rounding / permitted:.0%} of the sensitivity "
            f"that the budget permits, more than {_LARGEST_ROUNDING_SHARE:.0%}; use a schema of at most "
            f"{math.floor(dimension)} coordinates, or epsilon >= {1.01 * epsilon:.3g}{other}"
        )


def rounded_down(value: float) -> float:
    """Keep the leading bits of a positive number, towards zero."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.floor(math.ldexp(mantissa, _SIGNIFICANT_BITS)), exponent - _SIGNIFICANT_BITS)


def rounded_up(value: float) -> float:
    """Keep the leading bits of a positive number, away from zero."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.ceil(math.ldexp(mantissa, _SIGNIFICANT_BITS)), exponent - _SIGNIFICANT_BITS)
