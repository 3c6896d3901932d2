"""All owners' local models at once: m small problems as batches of matrices, not m loops.

Owner j minimises, for each of R linear terms p and with lambda the regularisation,

    J_j(theta) = (1/n_j) sum_i l(<x_i, theta>, y_i) + (lambda/2) ||theta||^2 + <p, theta> .

**In the rows' space.** With an orthonormal basis Q_j of r = min(n_j, d) columns that spans owner j's rows, the part of
theta outside the span meets no record: there the minimiser is -(p - Q Q'p) / lambda, and what remains is a problem in r
coordinates, whose rows are X_j Q_j. For 50,000 owners of one record that is a problem in one coordinate each. Newton's
method with halved steps solves it; gradient descent from zero commutes with the change of basis, so the paper's
iterations are followed in it exactly as well.

Owners with fewer records than others get rows of zeros: they add nothing to a gradient, and means are over n_j.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.reproduce.risk import ScoreLoss

__all__ = ["OwnerTables", "descend_on_average", "minimizers"]

_Array = NDArray[np.float64]
_CHUNK_BYTES = 1 << 27
_NEWTON_STEPS = 100
_HALVINGS = 30


@dataclass(frozen=True, eq=False)
class OwnerTables:
    """The records of m owners, of about the same number each.

    Args:
        rows: shape (m, n, d), n the largest owner's count; rows of zeros where an owner has fewer.
        labels: shape (m, n).
        counts: n_j, shape (m,).
    """

    rows: _Array
    labels: _Array
    counts: NDArray[np.int64]

    @classmethod
    def split(cls, dataset: Dataset, owners: int) -> Self:
        """Deal a table's records out to owners, in order, as evenly as can be.

        Raises:
            ValueError: there are fewer records than owners.
        """
        if owners > dataset.record_count:
            raise ValueError(f"{dataset.record_count} records are too few for {owners} owners")
        ends = np.array([len(part) for part in np.array_split(np.arange(dataset.record_count), owners)]).cumsum()
        starts = np.concatenate([[0], ends[:-1]])
        counts = ends - starts
        index = starts[:, np.newaxis] + np.arange(counts.max())
        missing = index >= ends[:, np.newaxis]
        index[missing] = 0
        rows, labels = dataset.features[index], dataset.labels[index]
        rows[missing] = 0.0
        return cls(rows, labels, counts)

    @property
    def owners(self) -> int:
        """Number of owners m."""
        return len(self.counts)

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return int(self.rows.shape[2])

    def chunks(self, columns: int) -> Iterator[slice]:
        """Cut the owners into runs whose problems fit into memory together."""
        rank = min(self.rows.shape[1], self.dimension)
        each = 8 * (columns * (rank * rank + self.rows.shape[1] * rank + 2 * self.dimension) + rank * self.dimension)
        size = max(1, _CHUNK_BYTES // each)
        for start in range(0, self.owners, size):
            yield slice(start, min(start + size, self.owners))

    def reduced(self, chunk: slice) -> "_Reduced":
        """Change to the basis of the rows' spaces."""
        rows = self.rows[chunk]
        basis, triangle = np.linalg.qr(rows.transpose(0, 2, 1))
        return _Reduced(
            basis=basis,
            rows=np.ascontiguousarray(triangle.transpose(0, 2, 1)),
            labels=self.labels[chunk],
            weights=1.0 / self.counts[chunk],
        )


@dataclass(frozen=True, eq=False)
class _Reduced:
    """Some owners' problems in their rows' spaces: basis (c, d, r), rows (c, n, r), labels (c, n), weights (c,)."""

    basis: _Array
    rows: _Array
    labels: _Array
    weights: _Array

    def gradient(self, points: _Array, linear: _Array, loss: ScoreLoss, regularization: float) -> _Array:
        """Compute the gradients at points of shape (c, r, R), with linear terms of the same shape."""
        slopes = loss.slope(self.rows @ points, self.labels[..., np.newaxis])
        slopes *= self.weights[:, np.newaxis, np.newaxis]
        return self.rows.transpose(0, 2, 1) @ slopes + regularization * points + linear

    def values(self, points: _Array, linear: _Array, loss: ScoreLoss, regularization: float) -> _Array:
        """Compute the objectives, shape (c, R)."""
        losses = loss.value(self.rows @ points, self.labels[..., np.newaxis])
        # A row of zeros has the loss of a score of zero, a constant: differences do not see it.
        means = losses.sum(axis=1) * self.weights[:, np.newaxis]
        return np.asarray(means + regularization / 2 * np.sum(points**2, axis=1) + np.sum(linear * points, axis=1))

    def newton_step(self, points: _Array, gradient: _Array, loss: ScoreLoss, regularization: float) -> _Array:
        """Solve with each problem's Hessian, shape (c, r, R)."""
        curvatures = loss.curvature(self.rows @ points, self.labels[..., np.newaxis])
        curvatures = (
            curvatures.transpose(0, 2, 1)[:, :, np.newaxis] * self.weights[:, np.newaxis, np.newaxis, np.newaxis]
        )
        rows = self.rows[:, np.newaxis]
        hessian = (rows.transpose(0, 1, 3, 2) * curvatures) @ rows + regularization * np.eye(points.shape[1])
        step = np.linalg.solve(hessian, gradient.transpose(0, 2, 1)[..., np.newaxis])
        return np.asarray(step[..., 0].transpose(0, 2, 1))


def minimizers(
    tables: OwnerTables,
    *,
    loss: ScoreLoss,
    regularization: float,
    linear: Iterator[_Array] | None = None,
    columns: int = 1,
    tolerance: float = 1e-9,
) -> Iterator[tuple[slice, _Array]]:
    """Minimise every owner's objective.

    Args:
        tables: all owners.
        loss: of a record.
        regularization: lambda, positive.
        linear: for each of ``tables.chunks(columns)`` its owners' linear terms, shape (c, R, d) or (1, R, d); none when
            absent.
        columns: R, number of linear terms for each owner.
        tolerance: bound on the gradients' norms; where rounding does not let it be met, the search ends.

    Returns:
        For each run of owners their models, shape (c, R, d).
    """
    for chunk in tables.chunks(columns):
        problem = tables.reduced(chunk)
        owners, dimension, rank = problem.basis.shape
        terms = np.zeros((1, columns, dimension)) if linear is None else next(linear)
        inside = np.ascontiguousarray((terms @ problem.basis).transpose(0, 2, 1))
        points = np.zeros((owners, rank, columns))
        arguments = (inside, loss, regularization)
        for _ in range(_NEWTON_STEPS):
            gradient = problem.gradient(points, *arguments)
            if np.max(np.sum(gradient**2, axis=1)) <= tolerance**2:
                break
            step = problem.newton_step(points, gradient, loss, regularization)
            moved = _descend_along(problem, points, step, gradient, arguments)
            if np.array_equal(moved, points):
                break
            points = moved
        outside = terms - inside.transpose(0, 2, 1) @ problem.basis.transpose(0, 2, 1)
        models = points.transpose(0, 2, 1) @ problem.basis.transpose(0, 2, 1) - outside / regularization
        yield chunk, models


def _descend_along(
    problem: _Reduced, points: _Array, step: _Array, gradient: _Array, arguments: tuple[_Array, ScoreLoss, float]
) -> _Array:
    """Halve each problem's step until its objective falls enough, or, within rounding of the minimum, take it whole."""
    before = problem.values(points, *arguments)
    fall = np.sum(gradient * step, axis=1)
    lengths = np.ones_like(before)
    for _ in range(_HALVINGS):
        moved = points - lengths[:, np.newaxis] * step
        short = problem.values(moved, *arguments) > before - lengths * fall / 4 + 1e-14 * np.abs(before)
        short &= lengths * fall > 1e-13 * np.abs(before)
        if not short.any():
            break
        lengths = np.where(short, lengths / 2, lengths)
    return points - lengths[:, np.newaxis] * step


def descend_on_average(
    tables: OwnerTables,
    *,
    loss: ScoreLoss,
    regularization: float,
    checkpoints: Sequence[int],
    learning_rate: float,
    linear: _Array | None = None,
    tolerance: float = 1e-8,
) -> _Array:
    """Follow gradient descent from zero at every owner, and average the owners' models now and then.

    Args:
        tables: all owners.
        loss: of a record.
        regularization: lambda.
        checkpoints: numbers of steps after which models are averaged, growing.
        learning_rate: eta.
        linear: one linear term for each of R columns, the same for all owners, shape (R, d); none when absent.
        tolerance: once no coordinate moves by more, descent has arrived and stays.

    Returns:
        The unweighted means of the owners' models, shape (number of checkpoints, R, d).
    """
    terms = np.zeros((1, tables.dimension)) if linear is None else linear
    columns = len(terms)
    total = np.zeros((len(checkpoints), columns, tables.dimension))
    for chunk in tables.chunks(columns):
        problem = tables.reduced(chunk)
        inside = np.ascontiguousarray((terms @ problem.basis).transpose(0, 2, 1))
        outside = terms - inside.transpose(0, 2, 1) @ problem.basis.transpose(0, 2, 1)
        points, steps, resting = np.zeros_like(inside), 0, False
        for number, checkpoint in enumerate(checkpoints):
            while steps < checkpoint and not resting:
                change = learning_rate * problem.gradient(points, inside, loss, regularization)
                points -= change
                steps += 1
                resting = steps % 50 == 0 and bool(np.abs(change).max() <= tolerance)
            # Outside the rows' space each step shrinks what is left of the way to -p / lambda by 1 - eta lambda.
            share = -math.expm1(checkpoint * math.log1p(-learning_rate * regularization)) / regularization
            models = points.transpose(0, 2, 1) @ problem.basis.transpose(0, 2, 1) - share * outside
            total[number] += models.sum(axis=0)
    return total / tables.owners
