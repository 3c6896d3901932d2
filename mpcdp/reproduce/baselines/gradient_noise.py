"""Gaussian noise on mean gradients over T rounds, by the paper's theorem or by the exact curve."""

import math

from mpcdp.privacy.accountant import gaussian_delta, gaussian_epsilon, gaussian_mu
from mpcdp.reproduce.baselines.noise import Noise
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["gaussian_guarantee", "gaussian_noise"]


def gaussian_noise(setting: Setting, calibration: Calibration, *, records: int, copies: int) -> Noise:
    """Return one round's noise on a mean gradient, of sensitivity 2 / records.

    Args:
        setting: the point.
        calibration: the paper's Theorem 3.4, or the exact curve.
        records: behind the mean that is noised.
        copies: number of such means that are averaged afterwards.
    """
    return Noise("gaussian", 2 * math.sqrt(setting.rounds) / (records * _mu(setting, calibration)), copies)


def gaussian_guarantee(setting: Setting, calibration: Calibration) -> Guarantee:
    """Return what that noise guarantees."""
    mu = _mu(setting, calibration)
    epsilon = gaussian_epsilon(mu=mu, delta=setting.delta)
    if calibration is Calibration.VALID:
        return Guarantee(epsilon=setting.epsilon, delta=setting.delta, kept=True, note="exact curve")
    delta = gaussian_delta(epsilon=setting.epsilon, mu=mu)
    exact = f"at epsilon = {setting.epsilon:g}, delta is {delta:.2g}"
    note = f"at delta = {setting.delta:g}, epsilon is {epsilon:.3g}; {exact}"
    return Guarantee(epsilon=epsilon, delta=setting.delta, kept=epsilon <= setting.epsilon, note=note)


def _mu(setting: Setting, calibration: Calibration) -> float:
    """Return the parameter of the Gaussian curve of all rounds together."""
    if calibration is Calibration.VALID:
        return gaussian_mu(epsilon=setting.epsilon, delta=setting.delta)
    return setting.epsilon / math.sqrt(2 * math.log(1 / setting.delta))
