"""Output perturbation: every owner trains alone, one weighted average of the models is released.

Owner j contributes n_j theta_j, where theta_j minimises J_j (see `mpcdp.learning.erm`) to the certificate tau; the sum
is noised, revealed, and divided by the public N = sum of n_j.

**Theorem.** Replacing one record of one owner moves the sum of contributions by at most

    2 G / lambda + max_j n_j (2 tau / lambda + 2 u R)                                         in the L2 norm.

*Proof.* Let owner j's tables D, D' differ in one record, with risks J, J' and certified vectors t, t'. At any theta
the two gradients differ by (l'(z') y' x' - l'(z) y x) / n_j, hence by at most 2 G / n_j, as rows lie in the unit ball.
J' is lambda-strongly convex, so

    lambda ||t - t'||^2 <= <grad J'(t) - grad J'(t'), t - t'> <= (2 G / n_j + tau + tau) ||t - t'|| ,

and n_j ||t - t'|| <= 2 G / lambda + 2 n_j tau / lambda. Computing n_j t and n_j t' rounds each coordinate by at most
u = 2^-53 of itself: u n_j R each, R bounding ||t||. The other owners' contributions do not change.  []

The factor n_j of the contribution cancels the 1/n_j of the sensitivity of a mean: the bound is the same for every
split of the records among owners. The unweighted mean of the paper has 2 G / (m n_(1) lambda) with n_(1) the smallest
owner's count; times N that is 2 G N / (m n_(1) lambda), never smaller, since m n_(1) <= N, and equal only when all n_j
are.

Source: Jayaraman et al., NeurIPS 2018, Theorem 3.1; Chaudhuri, Monteleoni & Sarwate, JMLR 2011, Lemma 7.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.records import Records
from mpcdp.errors import PlanError
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.losses import Loss
from mpcdp.learning.method import TrainingState
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity

__all__ = ["OutputPerturbation"]

_UNIT_ROUNDOFF = 2.0**-53
_OPERATIONS_PER_SECOND = 10**9  # of a slow core: an owner's training must never miss a deadline for one record
_UPWARD = 1 + 2.0**-40  # covers the rounding of the bounds' own evaluation


@dataclass(frozen=True, kw_only=True)
class OutputPerturbation:
    """One-round training by the weighted average of locally trained models.

    Args:
        loss: loss of the margin.
        regularization: lambda, positive.
        certificate: tau, positive: bound on the gradient's norm at every locally trained model. The smaller, the less
            noise it costs; `check` names the smallest that double precision can prove.
        dimension: d, the bias included; at least 1.
        training_seconds: how long an owner may train; what a slow core could not do in it is refused.

    Raises:
        ValueError: an argument is out of range.
    """

    loss: Loss
    regularization: float
    certificate: float
    dimension: int
    training_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ValueError(f"dimension is at least 1, not {self.dimension}")
        _ = self._solver  # validates the other arguments

    @property
    def _solver(self) -> CertifiedSolver:
        return CertifiedSolver(loss=self.loss, regularization=self.regularization, certificate=self.certificate)

    @property
    def rounds(self) -> int:
        return 1

    @property
    def parameter_count(self) -> int:
        return self.dimension

    @property
    def settings(self) -> Mapping[str, float | str]:
        return {"regularization": self.regularization, "certificate": self.certificate}

    @property
    def sampling_rate(self) -> float:
        return 1.0

    def check(self, record_counts: Sequence[int]) -> None:
        """Refuse a task that some table of an owner could not meet the certificate of, or not in time.

        Both depend on public numbers alone, so that no record decides whether or when an owner is ready.

        Args:
            record_counts: n_j of every owner, each at least 1.

        Raises:
            PlanError: there is no owner, a count is below 1, the certificate is below double precision's floor, or
                the largest owner's training could take too long.
        """
        if not record_counts or min(record_counts) < 1:
            raise PlanError("record_count: every owner needs at least one record, and there is at least one owner")
        count = max(record_counts)
        floor = self._solver.certificate_floor(record_count=count, dimension=self.dimension)
        if self.certificate < floor:
            at_least = f"at least {1.06 * floor:.1e} or " if math.isfinite(floor) else ""  # 6 %: rounding to two digits
            raise PlanError(
                f"model.certificate: {self.certificate:g} is below what double precision can prove for {count} records "
                f"of {self.dimension} coordinates at regularization {self.regularization:g}; use {at_least}a larger "
                "regularization"
            )
        operations = self._solver.worst_case_operations(record_count=count, dimension=self.dimension)
        most = _OPERATIONS_PER_SECOND * self.training_seconds
        if operations > most:
            raise PlanError(
                f"model.regularization: at {self.regularization:g}, training on {count} records of {self.dimension} "
                f"coordinates could take {operations:.0e} operations, more than the {most:.0e} that a slow core surely "
                "does within deadlines.start_seconds; use a larger regularization or, if the model has one, a larger "
                "huber_width, or a longer deadline"
            )

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        """Return 2 G / lambda plus what certificate and rounding add, in the L2 norm (theorem above)."""
        self.check(record_counts)
        # One record moves a gradient by 2 G / n_j, a certified minimiser by that plus 2 tau over lambda; times n_j.
        exact = 2 * self.loss.lipschitz / self.regularization
        inexact = 2 * self.certificate / self.regularization + 2 * _UNIT_ROUNDOFF * self._solver.radius
        bound = (exact + max(record_counts) * inexact) * _UPWARD
        return Sensitivity(norm=Norm.L2, bound=bound, relation=Relation.REPLACE_ONE)

    def contribution_bound(self, record_count: int) -> float:
        """Return n_j (min(sqrt(2 l(0) / lambda), G / lambda) + tau / lambda), rounded up (`CertifiedSolver.radius`)."""
        return record_count * self._solver.radius * _UPWARD

    def contribution(self, dataset: Records, state: TrainingState, *, key: bytes) -> NDArray[np.float64]:
        """Train on one owner's table and weight the result by its record count; state and key play no part.

        Training passes over the rows again and again, so all of them are taken into memory.

        Raises:
            ValueError: the table's dimension is not the method's, or its record count is one that `check` refuses, or
                its labels are not of two classes.
        """
        if dataset.dimension != self.dimension:
            raise ValueError(f"a table of dimension {dataset.dimension} does not fit a method of {self.dimension}")
        if dataset.class_count != 2:  # the sensitivity needs labels of -1 and +1
            raise ValueError(f"output perturbation needs labels of two classes, not class_count {dataset.class_count}")
        return self._solver.solve(dataset.in_memory()) * dataset.record_count

    def initial_state(self) -> TrainingState:
        return TrainingState(round_index=0, point=np.zeros(self.dimension), model=np.zeros(self.dimension))

    def next_state(
        self, state: TrainingState, release_sum: NDArray[np.float64], *, record_count: int, noise_deviation: float
    ) -> TrainingState:
        """Divide the released sum by the public number of records behind it; its noise plays no part."""
        average = np.asarray(release_sum / record_count, dtype=np.float64)
        return TrainingState(round_index=state.round_index + 1, point=average, model=average)
