"""Convex losses of the margin y <x, theta>, with the constants that privacy proofs use."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["HuberSvmLoss", "LogisticLoss", "Loss"]

_UNIT_ROUNDOFF = 2.0**-53


class Loss(Protocol):
    """A convex, non-increasing, once continuously differentiable loss l of the margin z.

    Guarantees:
        For every z, as real numbers: -lipschitz <= l'(z) <= 0, l' is smoothness-Lipschitz, l(0) = at_zero. Computed
        derivatives lie in [-lipschitz, 0] too and differ from l'(z) by at most derivative_error. No margin raises or
        warns; infinite ones are allowed.
    """

    @property
    def name(self) -> str:
        """What a task calls this loss's model."""
        ...

    @property
    def lipschitz(self) -> float:
        """G: bound on |l'|."""
        ...

    @property
    def smoothness(self) -> float:
        """Bound on |l''|."""
        ...

    @property
    def at_zero(self) -> float:
        """An upper bound on l(0), tight up to rounding."""
        ...

    @property
    def derivative_error(self) -> float:
        """Bound on the rounding error of one computed derivative."""
        ...

    def value(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return l(z) elementwise."""
        ...

    def derivative(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return l'(z) elementwise."""
        ...

    def second_derivative(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return l''(z) elementwise; where it does not exist, the derivative from either side."""
        ...


@dataclass(frozen=True)
class LogisticLoss:
    """l(z) = log(1 + e^-z), the loss of logistic regression: 1-Lipschitz and 1/4-smooth."""

    @property
    def name(self) -> str:
        return "logistic-regression"

    @property
    def lipschitz(self) -> float:
        return 1.0

    @property
    def smoothness(self) -> float:
        return 0.25

    @property
    def at_zero(self) -> float:
        return math.nextafter(math.log(2), 1)

    @property
    def derivative_error(self) -> float:
        # e^z errs relatively by a few units (24 are allowed here), which moves 1 / (1 + e^z) by at most a quarter of
        # that, since e^z / (1 + e^z)^2 <= 1/4; the sum and the quotient add one unit each.
        return 8 * _UNIT_ROUNDOFF

    def value(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.logaddexp(0.0, -margins)

    def derivative(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(over="ignore"):  # e^z = infinity gives the right limit, 0
            return np.asarray(-1.0 / (1.0 + np.exp(margins)), dtype=np.float64)

    def second_derivative(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        decay = np.exp(-np.abs(margins))
        return np.asarray(np.minimum(decay / (1.0 + decay) ** 2, 0.25), dtype=np.float64)  # rounding stays below 1/4


@dataclass(frozen=True)
class HuberSvmLoss:
    """The hinge with a rounded corner: 1-Lipschitz and 1/(2 width)-smooth.

    l(z) = 1 - z below 1 - width, 0 above 1 + width, and (1 + width - z)^2 / (4 width) between.

    Args:
        width: half the length of the rounded part; above 0, at most 1.

    Raises:
        ValueError: the width is out of range.

    Source: Chaudhuri, Monteleoni & Sarwate, JMLR 2011, section 3.4.2.
    """

    width: float

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1:
            raise ValueError(f"the Huber loss's width is above 0 and at most 1, not {self.width}")

    @property
    def name(self) -> str:
        return "huber-svm"

    @property
    def lipschitz(self) -> float:
        return 1.0

    @property
    def smoothness(self) -> float:
        return 0.5 / self.width

    @property
    def at_zero(self) -> float:
        return 1.0

    @property
    def derivative_error(self) -> float:
        # Of (1 + w - z) / (2 w): the constant's rounding is divided by 2 w, the difference and the quotient err by a
        # unit each where the result is at most 1; clipping enlarges no error.
        return ((1 + self.width) / (2 * self.width) + 3) * _UNIT_ROUNDOFF

    def value(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        shortfall = np.maximum(1.0 + self.width - margins, 0.0)
        rounded = np.minimum(shortfall, 2 * self.width)
        return np.asarray(rounded**2 / (4 * self.width) + (shortfall - rounded), dtype=np.float64)

    def derivative(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            -np.clip(1.0 + self.width - margins, 0.0, 2 * self.width) / (2 * self.width), dtype=np.float64
        )

    def second_derivative(self, margins: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.abs(1.0 - margins) <= self.width, self.smoothness, 0.0)
