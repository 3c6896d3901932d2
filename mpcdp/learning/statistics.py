"""Linear regression from one noised release of sums: A'A and A'b, and the ridge regression they give.

Every owner sums v(x, y) over its records, rows ||x|| <= 1 and targets |y| <= 1 (numbers, or classes as -1 and +1):

    v(x, y) = ( x_i x_j sqrt(2) for i < j,  x_i^2,  c y x_i ),       d (d + 1) / 2 + d coordinates,  c = 0.75 .

Only the upper triangle of the symmetric x x' is sent. The factor sqrt(2) makes its norm the Frobenius norm of the whole
matrix, so every entry off the diagonal carries 1 / sqrt(2) of the noise of one on it. c shares the noise out between
A'A and A'b; it is a constant, see below.

**Theorem.** Replacing one record of one owner moves the sum of contributions by at most

    (2 + c^2) / sqrt(2) + 2 r(max_j n_j)                                      in the L2 norm, for 0 <= c <= sqrt(2),

r being a bound on rounding. The first term is attained.

*Proof.* Let (x, y) give way to (z, w), and a = ||x||, b = ||z||, t = <x, z>. As <xx', zz'> = t^2,

    ||v(x, y) - v(z, w)||^2 = a^4 + b^4 - 2 t^2 + c^2 (a^2 y^2 + b^2 w^2 - 2 y w t) .

It is convex in y and in w, so largest at y, w = +-1; and with s = |t| <= a b it is at most

    f(a, b, s) = a^4 + b^4 - 2 s^2 + c^2 (a^2 + b^2 + 2 s) ,

with equality for y w t = -s. f grows with a and with b, and so does the range of s: a = b = 1. The parabola in s has
its maximum at s = c^2 / 2 <= 1, where f = 2 + 2 c^2 + c^4 / 2 = (2 + c^2)^2 / 2.

*Rounding.* A coordinate is a sum of n products: every term goes through 1 product and at most n - 1 additions, in
whatever order and fused or not; sqrt(2) and the last product round once each. So it is off by at most
g = (n + 2) u / (1 - (n + 2) u), u = 2^-53, times the same coordinate of the sum of v(|x|, |y|) (Higham 2002, section
3.1). That vector's norm is at most n sqrt(1 + c^2), as ||v(x, y)||^2 = ||x||^4 + c^2 y^2 ||x||^2. So
r(n) = g n sqrt(1 + c^2), once for each of the two tables. The other owners' contributions do not change.  []

**Why c = 0.75.** With noise of deviation s on every coordinate, A'A theta is off by about s ||theta|| / sqrt(2) and A'b
by s / c in each coordinate. (2 + c^2)^2 (||theta||^2 / 2 + 1 / c^2) is least at c = 1 for ||theta|| = 1, at 0.77 for 2
and at 0.57 for 4, which is what rows of about unit length and targets in [-1, 1] make usual; 0.75 is within 6 % of the
least deviation for all of them.

**The ridge rule.** The noise on A'A is a symmetric matrix whose norm is close to tau = s sqrt(2 d). With m the smallest
eigenvalue of the *noised* A'A, lambda = max(0, tau - m): the smallest eigenvalue is lifted to the noise's level and no
further, so a well-conditioned table is not biased at all. It is a function of the release: it costs nothing.

Source: Wang, "Revisiting differentially private linear regression", UAI 2018 (AdaSSP), which spends a third of the
budget each on A'A, A'b and the smallest eigenvalue; here all of it is spent on one joint release.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.data.records import Records
from mpcdp.errors import PlanError
from mpcdp.learning.method import TrainingState
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity

__all__ = ["LARGEST_ROW_DIMENSION", "TARGET_WEIGHT", "SufficientStatistics"]

LARGEST_ROW_DIMENSION = 300
"""Rows of more coordinates are refused: their squares make too many noised sums."""

TARGET_WEIGHT = 0.75
"""c: what A'b is multiplied by before it is sent."""

_BLOCK = 4096  # rows added up at a time
_UNIT_ROUNDOFF = 2.0**-53
_UPWARD = 1 + 2.0**-40  # covers the rounding of the bounds' own evaluation, and underflow in the sums


@dataclass(frozen=True, kw_only=True)
class SufficientStatistics:
    """Least squares from one noised release of A'A and A'b.

    Args:
        parameter_count: coordinates of a row, the bias included; at least 1. `sensitivity` refuses more than
            `LARGEST_ROW_DIMENSION`.

    Raises:
        ValueError: the count is below 1.
    """

    parameter_count: int

    def __post_init__(self) -> None:
        if self.parameter_count < 1:
            raise ValueError(f"parameter_count is at least 1, not {self.parameter_count}")

    @property
    def rounds(self) -> int:
        return 1

    @property
    def dimension(self) -> int:
        return self._triangle_size + self.parameter_count

    @property
    def settings(self) -> Mapping[str, float | str]:
        return {"target_weight": TARGET_WEIGHT}

    @property
    def sampling_rate(self) -> float:
        return 1.0

    @property
    def _triangle_size(self) -> int:
        return self.parameter_count * (self.parameter_count + 1) // 2

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        """Return (2 + c^2) / sqrt(2) plus what rounding adds, in the L2 norm (theorem above)."""
        if not record_counts or min(record_counts) < 1:
            raise PlanError("record_count: every owner needs at least one record, and there is at least one owner")
        if self.parameter_count > LARGEST_ROW_DIMENSION:
            raise PlanError(
                f"schema.features: {self.parameter_count} coordinates make {self.dimension} sums for the method "
                f'"statistics"; use at most {LARGEST_ROW_DIMENSION}, or the method "gradient-perturbation"'
            )
        # Two unit vectors with <x, z> = c^2 / 2 and targets +1 and -1 are the farthest apart.
        exact = (2 + TARGET_WEIGHT**2) / math.sqrt(2)
        bound = (exact + 2 * _rounding(max(record_counts))) * _UPWARD
        return Sensitivity(norm=Norm.L2, bound=bound, relation=Relation.REPLACE_ONE)

    def contribution_bound(self, record_count: int) -> float:
        """Return n sqrt(1 + c^2), rounded up."""
        return (record_count * math.sqrt(1 + TARGET_WEIGHT**2) + _rounding(record_count)) * _UPWARD

    def contribution(self, dataset: Records, state: TrainingState, *, key: bytes) -> NDArray[np.float64]:
        """Sum the weighted products of one owner's table; state and key play no part.

        Raises:
            ValueError: the table's dimension is not the method's, or its labels are three or more classes.
        """
        if dataset.dimension != self.parameter_count:
            raise ValueError(
                f"a table of dimension {dataset.dimension} does not fit a method of {self.parameter_count}"
            )
        if dataset.class_count > 2:
            raise ValueError(f"least squares need numbers or two classes, not {dataset.class_count} classes")
        total = np.zeros((self.parameter_count + 1) * self.parameter_count)
        for part in dataset.map_blocks(_block_sum, _BLOCK):
            total += part
        *products, targets = total.reshape(-1, self.parameter_count)
        return np.concatenate([np.array(products)[self._triangle] * self._triangle_weights, TARGET_WEIGHT * targets])

    def initial_state(self) -> TrainingState:
        nothing = np.zeros(self.parameter_count)
        return TrainingState(round_index=0, point=nothing, model=nothing)

    def next_state(
        self, state: TrainingState, release_sum: NDArray[np.float64], *, record_count: int, noise_deviation: float
    ) -> TrainingState:
        """Solve the noised normal equations under the ridge rule above; the record count plays no part.

        Directions in which the lifted matrix is zero up to rounding, which only a release without noise has, are left
        out: the shortest of the least-squares solutions.
        """
        matrix, targets = self._normal_equations(release_sum)
        eigenvalues, directions = np.linalg.eigh(matrix)
        noise_level = noise_deviation * math.sqrt(2 * self.parameter_count)
        lifted = eigenvalues + max(0.0, noise_level - float(eigenvalues[0]))
        negligible = 8 * self.parameter_count * _UNIT_ROUNDOFF * float(np.abs(eigenvalues).max())
        inverses = np.divide(1.0, lifted, out=np.zeros_like(lifted), where=lifted > negligible)
        model = np.asarray(directions @ (inverses * (directions.T @ targets)), dtype=np.float64)
        return TrainingState(round_index=state.round_index + 1, point=model, model=model)

    def _normal_equations(self, release_sum: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Undo the weights: the symmetric A'A, shape (p, p), and A'b, shape (p,)."""
        triangle = release_sum[: self._triangle_size] / self._triangle_weights
        matrix = np.zeros((self.parameter_count, self.parameter_count))
        matrix[self._triangle] = triangle
        matrix.T[self._triangle] = triangle
        return matrix, release_sum[self._triangle_size :] / TARGET_WEIGHT

    @property
    def _triangle(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        rows, columns = np.triu_indices(self.parameter_count)
        return rows, columns

    @property
    def _triangle_weights(self) -> NDArray[np.float64]:
        rows, columns = self._triangle
        return np.where(rows == columns, 1.0, math.sqrt(2))


def _block_sum(block: Dataset, first: int) -> NDArray[np.float64]:
    """Sum a block's products: A'A, row by row, and A'b, shape (d (d + 1),)."""
    return np.concatenate([(block.features.T @ block.features).reshape(-1), block.features.T @ block.labels])


def _rounding(record_count: int) -> float:
    """Bound r(n), how far a contribution as computed lies from the exact one, in the L2 norm."""
    steps = (record_count + 2) * _UNIT_ROUNDOFF
    return steps / (1 - steps) * record_count * math.sqrt(1 + TARGET_WEIGHT**2)
