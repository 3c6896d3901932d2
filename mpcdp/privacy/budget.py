"""An amount of privacy: spent, asked for, or granted."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

__all__ = ["PrivacyBudget"]


@dataclass(frozen=True, kw_only=True)
class PrivacyBudget:
    """(epsilon, delta) of differential privacy: P(M(D) in S) <= e^epsilon P(M(D') in S) + delta for all neighbours.

    Args:
        epsilon: finite, at least 0.
        delta: in [0, 1]; 1 promises nothing.

    Raises:
        ValueError: an argument is out of range.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"epsilon is a finite number of at least 0, not {self.epsilon}")
        if not 0 <= self.delta <= 1:
            raise ValueError(f"delta is a number from 0 to 1, not {self.delta}")

    @classmethod
    def sum(cls, costs: "Iterable[PrivacyBudget]") -> "PrivacyBudget":
        """Add up what several mechanisms cost together by basic composition; a delta above 1 counts as 1.

        Numbers are added as the decimals they print as, so that three times 0.1 is 0.3 and fits a limit of 0.3.

        Source: Dwork & Roth 2014, Theorem 3.16; adaptive choice is covered by their Theorem B.1.
        """
        epsilon, delta = Decimal(0), Decimal(0)
        for cost in costs:
            epsilon += Decimal(repr(cost.epsilon))
            delta += Decimal(repr(cost.delta))
        return cls(epsilon=float(epsilon), delta=min(float(delta), 1.0))

    def fits(self, limit: "PrivacyBudget") -> bool:
        """Tell whether neither epsilon nor delta exceeds the limit's."""
        return self.epsilon <= limit.epsilon and self.delta <= limit.delta

    def __str__(self) -> str:
        return f"(epsilon = {self.epsilon:.6g}, delta = {self.delta:.6g})"
