"""Pathak, Rane & Raj 2010: the mean of the local models, with noise as if it came from the smallest owner alone.

Source: "Multiparty differential privacy via aggregation of locally trained classifiers", NeurIPS 2010, Theorem 4.1:
scale 2 / (n_(1) epsilon lambda). Protects one record of one owner in the published mean, against everybody who sees
it. The noise is m times larger than the mean's sensitivity needs (Jayaraman et al. 2018, Theorem 3.1).
"""

from mpcdp.reproduce.baselines.noise import Noise, laplace_guarantee, laplace_kind
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["Pathak"]


class Pathak:
    """One noise of a single owner's size on the mean of the local models."""

    key = "pathak"
    title = "Pathak et al. 2010"
    where = "once, on the mean of local models"
    formula = "b = 2 / (n_(1) lambda epsilon)"

    def noise(self, setting: Setting, calibration: Calibration) -> Noise:
        """Return the noise on the mean of the local models."""
        scale = 2 / (setting.smallest_count * setting.regularization * setting.epsilon)
        return Noise(laplace_kind(calibration), scale)

    def guarantee(self, setting: Setting, calibration: Calibration) -> Guarantee:
        """Return what a record is really promised."""
        return laplace_guarantee(setting, calibration)
