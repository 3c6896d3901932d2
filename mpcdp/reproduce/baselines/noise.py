"""The noise of the baselines, from numpy's generators: it protects nobody.

For output and objective perturbation the theorems need a *vector* of density proportional to exp(-||y|| / b): a length
from Gamma(d, b) in a uniform direction. The paper's experiments draw d independent Laplace numbers of scale b instead,
whose density is proportional to exp(-||y||_1 / b): as ||y||_1 is up to sqrt(d) ||y||, that keeps sqrt(d) epsilon only.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["Noise", "laplace_guarantee", "laplace_kind"]

Kind = Literal["laplace-coordinates", "laplace-vector", "gaussian"]
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Noise:
    """Random vectors.

    Args:
        kind: law of one vector.
        scale: b of Laplace's, the standard deviation of the Gaussian.
        copies: number of independent vectors whose mean is taken.
    """

    kind: Kind
    scale: float
    copies: int = 1

    def sample(self, rng: np.random.Generator, runs: int, dimension: int) -> NDArray[np.float64]:
        """Draw means of ``copies`` vectors, shape (runs, d)."""
        if self.kind == "gaussian":
            return rng.normal(0.0, self.scale / math.sqrt(self.copies), (runs, dimension))
        if self.copies == 1:
            return self.vectors(rng, (runs, dimension))
        return np.stack([self._mean(rng, dimension) for _ in range(runs)])

    def vectors(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Draw single vectors, the last axis being a vector's."""
        if self.kind == "gaussian":
            return rng.normal(0.0, self.scale, shape)
        if self.kind == "laplace-coordinates":
            return rng.laplace(0.0, self.scale, shape)
        directions = rng.normal(size=shape)
        lengths = rng.gamma(shape[-1], self.scale, shape[:-1])
        factors = lengths / np.linalg.norm(directions, axis=-1)
        return np.asarray(directions * factors[..., np.newaxis])

    def deviation(self, dimension: int) -> float:
        """Return the root mean square of one coordinate of the mean."""
        one = {"gaussian": 1.0, "laplace-coordinates": math.sqrt(2), "laplace-vector": math.sqrt(dimension + 1)}
        return self.scale * one[self.kind] / math.sqrt(self.copies)

    def _mean(self, rng: np.random.Generator, dimension: int) -> NDArray[np.float64]:
        total, left = np.zeros(dimension), self.copies
        while left:
            count = min(left, max(1, _BLOCK // dimension))
            total += self.vectors(rng, (count, dimension)).sum(axis=0)
            left -= count
        return total / self.copies


def laplace_kind(calibration: Calibration) -> Kind:
    """Return which Laplace noise a calibration means."""
    return "laplace-vector" if calibration is Calibration.VALID else "laplace-coordinates"


def laplace_guarantee(setting: Setting, calibration: Calibration) -> Guarantee:
    """Return what Laplace noise guarantees whose scale is L2 sensitivity over epsilon."""
    if calibration is Calibration.VALID:
        return Guarantee(epsilon=setting.epsilon, delta=0.0, kept=True, note="pure")
    pure = math.sqrt(setting.dimension) * setting.epsilon
    delta = _delta_along_the_diagonal(setting.epsilon, setting.dimension)
    return Guarantee(
        epsilon=pure,
        delta=0.0,
        kept=False,
        note=f"pure epsilon = {pure:.3g}; at epsilon = {setting.epsilon:g}, delta is at least {delta:.2g}",
    )


@lru_cache(maxsize=256)
def _delta_along_the_diagonal(epsilon: float, dimension: int) -> float:
    """Bound delta from below, by two vectors that differ by 1 / sqrt(d) of the sensitivity in every coordinate."""
    from dp_accounting.pld import privacy_loss_distribution

    one = privacy_loss_distribution.from_laplace_mechanism(
        math.sqrt(dimension) / epsilon,
        pessimistic_estimate=False,
        value_discretization_interval=2e-5,
        use_connect_dots=False,
    )
    return float(one.self_compose(dimension).get_delta_for_epsilon(epsilon))
