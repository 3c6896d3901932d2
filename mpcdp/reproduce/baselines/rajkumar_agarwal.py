"""Rajkumar & Agarwal 2012: a noised objective, minimised by gradients that carry noise of their own.

Source: "A differentially private stochastic gradient descent algorithm for multiparty classification", AISTATS 2012,
as the paper's code has it: once a Gaussian linear term b in the common objective, of deviation
2 sqrt(2 log(1.25 / delta)) / (N epsilon'), and in every round Laplace coordinates of scale 2 / (N epsilon) on the mean
gradient. Protects one record in the final model as far as b goes, and in *one* round's message by the Laplace noise:
that is fresh in each of the T rounds, and its epsilon adds up over them, which neither the method nor the paper counts.
There is no valid calibration of this method apart from gradient perturbation, so none is offered.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mpcdp.reproduce.baselines.noise import Noise
from mpcdp.reproduce.baselines.setting import Guarantee, Setting

__all__ = ["RajkumarAgarwal"]


class RajkumarAgarwal:
    """One noise in the common objective, and one on the mean gradient in every round."""

    key = "rajkumar_agarwal"
    title = "Rajkumar & Agarwal 2012"
    where = "once in the objective, and on every mean gradient"
    formula = "b = 2 / (N epsilon) a round"

    def noise(self, setting: Setting) -> Noise:
        """Return one round's noise on the mean gradient."""
        return Noise("laplace-coordinates", 2 / (setting.record_count * setting.epsilon))

    def tilt(self, setting: Setting, rng: np.random.Generator, runs: int) -> tuple[NDArray[np.float64], float]:
        """Return the linear term of the objective in each run, shape (runs, d), and what is added to lambda."""
        left, extra = self._epsilon_left(setting)
        deviation = 2 * math.sqrt(2 * math.log(1.25 / setting.delta)) / (left * setting.record_count)
        return rng.normal(0.0, deviation, (runs, setting.dimension)), extra / setting.record_count

    def guarantee(self, setting: Setting) -> Guarantee:
        """Return what a record is really promised by all rounds together."""
        pure = setting.rounds * math.sqrt(setting.dimension) * setting.epsilon
        note = f"each round alone is protected; {setting.rounds} rounds together cost epsilon = {pure:.3g}"
        return Guarantee(epsilon=pure, delta=0.0, kept=False, note=note)

    def _epsilon_left(self, setting: Setting) -> tuple[float, float]:
        """Return epsilon' and Delta, by the formula of the paper's code for local objectives."""
        records = setting.smallest_count
        left = setting.epsilon - 2 * math.log(setting.curvature / (records * setting.regularization))
        if left > 0:
            return left, 0.0
        extra = setting.curvature / (records * math.expm1(setting.epsilon / 4)) - setting.regularization
        return setting.epsilon / 2, extra
