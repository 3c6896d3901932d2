"""Local output perturbation: every owner adds noise of its own to its model before anybody averages.

Source: Chaudhuri, Monteleoni & Sarwate, JMLR 2011, Algorithm 1 and Theorem 6, at each owner: scale
2 / (n_j epsilon lambda). Protects one record of one owner against everybody, whoever adds the models up: no secure
computation is needed. The mean carries m noises over m^2.
"""

from mpcdp.reproduce.baselines.noise import Noise, laplace_guarantee, laplace_kind
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["LocalOutput"]


class LocalOutput:
    """A noise of every owner's own on its local model."""

    key = "local_output"
    title = "local output perturbation"
    where = "by every owner, on its model"
    formula = "b = 2 / (n_j lambda epsilon), mean of m"

    def noise(self, setting: Setting, calibration: Calibration) -> Noise:
        """Return the noise on the mean of the local models."""
        scale = 2 / (setting.smallest_count * setting.regularization * setting.epsilon)
        return Noise(laplace_kind(calibration), scale, copies=setting.owners)

    def guarantee(self, setting: Setting, calibration: Calibration) -> Guarantee:
        """Return what a record is really promised."""
        return laplace_guarantee(setting, calibration)
