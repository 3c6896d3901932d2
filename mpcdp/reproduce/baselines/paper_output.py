"""The paper's output perturbation: one noise inside the secure computation, on the mean of the local models.

Source: Jayaraman, Wang, Evans & Gu, NeurIPS 2018, Theorem 3.1: scale 2 / (m n_(1) epsilon lambda). Protects one record
of one owner in the published mean. Its proof uses noise of density exp(-||y|| / b); its experiments and its code add
Laplace numbers to every coordinate, which is not the promised epsilon.
"""

from mpcdp.reproduce.baselines.noise import Noise, laplace_guarantee, laplace_kind
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["PaperOutput"]


class PaperOutput:
    """One noise of the mean's own sensitivity on the mean of the local models."""

    key = "mpc_output"
    title = "paper: MPC output"
    where = "once, on the mean of local models"
    formula = "b = 2 / (m n_(1) lambda epsilon)"

    def noise(self, setting: Setting, calibration: Calibration) -> Noise:
        """Return the noise on the mean of the local models."""
        records = setting.owners * setting.smallest_count
        return Noise(laplace_kind(calibration), 2 / (records * setting.regularization * setting.epsilon))

    def guarantee(self, setting: Setting, calibration: Calibration) -> Guarantee:
        """Return what a record is really promised."""
        return laplace_guarantee(setting, calibration)
