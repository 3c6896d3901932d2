"""The paper's gradient perturbation: in every round one noise inside the secure computation, on the mean gradient.

Source: Jayaraman, Wang, Evans & Gu, NeurIPS 2018, Theorem 3.4: sigma^2 = 8 G^2 T log(1/delta) / (m n_(1) epsilon)^2.
Protects one record of one owner in all published models together. The theorem is loose for small epsilon (the exact
curve allows a 1.6 times smaller sigma at epsilon = 0.5, delta = 1e-3) and fails for large ones.
"""

from mpcdp.reproduce.baselines.gradient_noise import gaussian_guarantee, gaussian_noise
from mpcdp.reproduce.baselines.noise import Noise
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["PaperGradient"]


class PaperGradient:
    """One noise of the mean's own sensitivity on the mean gradient, in every round."""

    key = "mpc_gradient"
    title = "paper: MPC gradient"
    where = "once a round, on the mean gradient"
    formula = "sigma^2 = 8 T log(1/delta) / (m n_(1) epsilon)^2"

    def noise(self, setting: Setting, calibration: Calibration) -> Noise:
        """Return one round's noise on the mean gradient."""
        return gaussian_noise(setting, calibration, records=setting.owners * setting.smallest_count, copies=1)

    def guarantee(self, setting: Setting, calibration: Calibration) -> Guarantee:
        """Return what a record is really promised."""
        return gaussian_guarantee(setting, calibration)
