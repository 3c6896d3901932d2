"""What rounds of Gaussian noise cost when every record takes part in each with probability q only.

A round's sum is a Gaussian around B + v where B does not depend on the record in question and v is its term if it was
drawn, 0 if not; replacing the record replaces v by v'. With ||v||, ||v'|| <= c the two rounds are dominated by

    (1 - q) N(0, sigma^2) + q N(c, sigma^2)   and   (1 - q) N(0, sigma^2) + q N(-c, sigma^2) ,

which is dp-accounting's ``PoissonSampledDpEvent(q, GaussianDpEvent(sigma / c))`` under the relation REPLACE_ONE. (Its
default relation, add or remove a record, would give a far too small delta.) The privacy loss distribution of T rounds
is a convolution; dp-accounting rounds it pessimistically, so every delta here is an upper bound.

Encoding moves each coordinate by at most 1/2, so c = s (C + e) + sqrt(d) in ring units, for a clipping norm C, a
summation error e on either side, a scale s and d coordinates: half of `mpcdp.plan.calibration`'s integer sensitivity.

Source: dp-accounting; Koskela, Jalko & Honkela, AISTATS 2020, for the substitute relation; Zhu, Dong & Wang, AISTATS
2022, for dominating pairs and their composition.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.sensitivity import Norm, Sensitivity

__all__ = ["SubsampledGaussianMechanism", "subsampled_gaussian_delta"]

_INTERVAL = 1e-3
"""Width of the cells that privacy losses are rounded up into: at T = 1000 it costs about one part in a thousand."""

_SEARCH_STEPS = 24


@lru_cache(maxsize=256)
def subsampled_gaussian_delta(*, epsilon: float, multiplier: float, sampling_rate: float, rounds: int) -> float:
    """Bound the delta of rounds of sub-sampled Gaussian noise under replacement of one record.

    Args:
        epsilon: at least 0.
        multiplier: sigma / c, positive.
        sampling_rate: q, in (0, 1].
        rounds: T, at least 1.
    """
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(NeighboringRelation.REPLACE_ONE, value_discretization_interval=_INTERVAL)
    accountant.compose(PoissonSampledDpEvent(sampling_rate, GaussianDpEvent(multiplier)), rounds)
    return float(accountant.get_delta(epsilon))


@dataclass(frozen=True, kw_only=True)
class SubsampledGaussianMechanism:
    """Add N(0, noise_scale^2) to every coordinate of a sum over a random sample of the records.

    Args:
        noise_scale: standard deviation, positive and finite.
        sampling_rate: q, in (0, 1): the probability of every record to be drawn, in every round anew.
    """

    norm: ClassVar[Norm] = Norm.L2
    noise_scale: float
    sampling_rate: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise_scale) and self.noise_scale > 0 and 0 < self.sampling_rate < 1):
            raise ValueError("a noise scale is positive and finite, a sampling rate lies between 0 and 1")

    def delta(self, sensitivity: Sensitivity, *, epsilon: float, rounds: int) -> float:
        """Bound the delta of ``rounds`` releases at an epsilon.

        Args:
            sensitivity: of the sum over all records when one is replaced; half of it bounds one record's term.
            epsilon: at least 0.
            rounds: number of releases.
        """
        if sensitivity.norm is not self.norm:
            raise ValueError(f"Gaussian noise needs a sensitivity of norm {self.norm.value}")
        return subsampled_gaussian_delta(
            epsilon=epsilon,
            multiplier=self.noise_scale / (sensitivity.bound / 2),
            sampling_rate=self.sampling_rate,
            rounds=rounds,
        )

    def noise_ratio(self, budget: PrivacyBudget, *, rounds: int) -> float:
        """Find a noise scale per unit of sensitivity that a budget permits, within a thousandth of the smallest.

        Raises:
            ValueError: no noise meets the budget.
        """

        def fits(multiplier: float) -> bool:
            delta = subsampled_gaussian_delta(
                epsilon=budget.epsilon, multiplier=multiplier, sampling_rate=self.sampling_rate, rounds=rounds
            )
            return delta <= budget.delta

        upper = 1.0
        while not fits(upper):
            upper *= 2
            if upper > 2.0**40:
                raise ValueError("no noise meets the budget")
        lower = upper / 2
        while fits(lower):
            lower, upper = lower / 2, lower
            if lower < 2.0**-20:
                break
        for _ in range(_SEARCH_STEPS):
            if upper - lower <= 1e-3 * upper:
                break
            middle = (lower + upper) / 2
            lower, upper = (lower, middle) if fits(middle) else (middle, upper)
        return upper / 2  # per unit of what a replacement moves, which is twice one record's term
