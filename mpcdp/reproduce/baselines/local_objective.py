"""Local objective perturbation: every owner minimises an objective with a random linear term of its own.

Source: Chaudhuri, Monteleoni & Sarwate, JMLR 2011, Algorithm 2 and Theorem 9, at each owner. With c the bound on the
loss's second derivative,

    epsilon' = epsilon - log(1 + 2 c / (n lambda) + c^2 / (n lambda)^2),
    Delta = 0 if epsilon' > 0, else epsilon' = epsilon / 2 and Delta = c / (n (e^(epsilon / 4) - 1)) - lambda,
    minimise J(theta) + (Delta / 2) ||theta||^2 + <b, theta> / n,   b of density exp(-epsilon' ||b|| / 2) .

(1 + c / (n lambda))^2 is what is under the logarithm.) Protects one record of one owner against everybody, if the
minimiser is exact.

**The paper's version** has three faults: a 1 is missing under the logarithm, b has Laplace coordinates, and its code
draws *one* b for all owners, so averaging does not shrink the noise. The last one is why local objective perturbation
looks so bad in its figures, and it would also let any owner subtract the others' noise.
"""

import math
from dataclasses import dataclass

from mpcdp.reproduce.baselines.noise import Noise, laplace_guarantee, laplace_kind
from mpcdp.reproduce.baselines.setting import Calibration, Guarantee, Setting

__all__ = ["LocalObjective", "ObjectiveTerms"]


@dataclass(frozen=True)
class ObjectiveTerms:
    """What an owner adds to its objective.

    Args:
        linear: law of the linear term b / n.
        shared: whether all owners have the same one.
        extra_regularization: Delta.
    """

    linear: Noise
    shared: bool
    extra_regularization: float


class LocalObjective:
    """A random linear term in every owner's objective."""

    key = "local_objective"
    title = "local objective perturbation"
    where = "by every owner, in its objective"
    formula = "b / n_j, scale 2 / (n_j epsilon')"

    def terms(self, setting: Setting, calibration: Calibration) -> ObjectiveTerms:
        """Return what the owners add to their objectives."""
        records, valid = setting.smallest_count, calibration is Calibration.VALID
        ratio = setting.curvature / (records * setting.regularization)
        left = setting.epsilon - 2 * math.log(1 + ratio if valid else ratio)
        extra = 0.0
        if left <= 0:
            # lambda + Delta is at least what makes the logarithm epsilon / 2; lambda itself may be more.
            extra = setting.curvature / (records * math.expm1(setting.epsilon / 4)) - setting.regularization
            left = setting.epsilon / 2
        return ObjectiveTerms(Noise(laplace_kind(calibration), 2 / (left * records)), not valid, extra)

    def guarantee(self, setting: Setting, calibration: Calibration) -> Guarantee:
        """Return what a record is really promised."""
        if calibration is Calibration.VALID:
            return laplace_guarantee(setting, calibration)
        note = "one b for all owners: whoever knows it, any owner, can subtract it"
        return Guarantee(epsilon=math.inf, delta=0.0, kept=False, note=note)
