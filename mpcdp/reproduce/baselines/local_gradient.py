"""Local gradient perturbation, in the manner of Shokri & Shmatikov 2015: every owner adds noise to its gradients.

Source: Shokri & Shmatikov, "Privacy-preserving deep learning", CCS 2015, for the protocol; as there every owner's mean
gradient is noised before it leaves, here with Gaussian noise over T rounds: sensitivity 2 G / n_j. The valid noise is
that of the exact Gaussian curve (Balle & Wang 2018), mu = sqrt(T) 2 / (n_j sigma); the paper's is its Theorem 3.4 with
one owner's records. Protects one record of one owner against everybody; the mean carries m noises over m^2.
"""

from mpcdp.reproduce.baselines.gradient_noise import gaussian_guarantee, gaussian_noise
from mpcdp.reproduce.baselines.noise import Noise
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["LocalGradient"]


class LocalGradient:
    """A noise of every owner's own on its gradient, in every round."""

    key = "local_gradient"
    title = "local gradient perturbation"
    where = "by every owner, on every gradient"
    formula = "sigma^2 = 8 T log(1/delta) / (n_j epsilon)^2, mean of m"

    def noise(self, setting: Setting, calibration: Calibration) -> Noise:
        """Return one round's noise on the mean gradient."""
        return gaussian_noise(setting, calibration, records=setting.smallest_count, copies=setting.owners)

    def guarantee(self, setting: Setting, calibration: Calibration) -> Guarantee:
        """Return what a record is really promised."""
        return gaussian_guarantee(setting, calibration)
