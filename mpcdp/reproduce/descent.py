"""Noised gradient descent on all records, for many settings and runs side by side.

When all owners have the same number of records, the mean of their mean gradients is the mean gradient of all records,
so every method of this kind is one descent whose columns differ in their noise. Records that occur several times
(three in five of KDDCup99) are computed once, with a weight. Single precision is enough: its rounding is a thousand
times smaller than any noise here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.reproduce.baselines import Noise
from mpcdp.reproduce.risk import ScoreLoss

__all__ = ["Descent", "descend"]

_BLOCK = 2048  # rows whose scores are in the processor's cache at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class Descent:
    """Some runs of one method in one setting.

    Args:
        noise: of one round on the mean gradient.
        runs: R.
        linear: gradient of a random linear term of the objective, shape (R, d); none when absent.
        extra_regularization: what is added to lambda.
        seed: of the runs' noise.
    """

    noise: Noise
    runs: int
    linear: NDArray[np.float64] | None = None
    extra_regularization: float = 0.0
    seed: int = 0


def descend(
    descents: Sequence[Descent],
    dataset: Dataset,
    *,
    loss: ScoreLoss,
    regularization: float,
    learning_rate: float,
    checkpoints: Sequence[int],
    progress: Callable[[int], None] = lambda steps: None,
) -> list[NDArray[np.float64]]:
    """Run descents from zero, and note where they are now and then.

    Args:
        descents: what to run.
        dataset: the records of all owners.
        loss: of a record.
        regularization: lambda.
        learning_rate: eta.
        checkpoints: numbers of steps, growing.
        progress: called with the number of steps taken since the last call.

    Returns:
        For each descent its points, shape (number of checkpoints, R, d).
    """
    records = _Records.distinct(dataset)
    owners = np.repeat(np.arange(len(descents)), [descent.runs for descent in descents])
    linear, shrinkage = _objective(descents, dataset.dimension, regularization)
    noises = [np.random.default_rng(descent.seed) for descent in descents]
    points = np.zeros((len(owners), dataset.dimension), dtype=np.float32)
    noted, steps = [], 0
    for checkpoint in checkpoints:
        for _ in range(checkpoint - steps):
            gradient = records.mean_gradient(points, loss) + shrinkage * points + linear
            for number, (descent, rng) in enumerate(zip(descents, noises, strict=True)):
                drawn = descent.noise.sample(rng, descent.runs, dataset.dimension)
                gradient[owners == number] += drawn.astype(np.float32)
            points -= np.float32(learning_rate) * gradient
        progress(checkpoint - steps)
        steps = checkpoint
        noted.append(points.astype(np.float64))
    stacked = np.stack(noted)
    return [stacked[:, owners == number] for number in range(len(descents))]


def _objective(
    descents: Sequence[Descent], dimension: int, regularization: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each column's linear term and its lambda."""
    linear = [np.zeros((each.runs, dimension)) if each.linear is None else each.linear for each in descents]
    shrinkage = [np.full((each.runs, 1), regularization + each.extra_regularization) for each in descents]
    return np.concatenate(linear).astype(np.float32), np.concatenate(shrinkage).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Records:
    """Distinct records and the shares of all records that they are.

    Args:
        rows: shape (u, d).
        labels: shape (u, 1).
        shares: shape (u, 1), sum 1.
    """

    rows: NDArray[np.float32]
    labels: NDArray[np.float32]
    shares: NDArray[np.float32]

    @classmethod
    def distinct(cls, dataset: Dataset) -> Self:
        """Put records that are the same together."""
        together = np.column_stack([dataset.features, dataset.labels]).astype(np.float32)
        found, counts = np.unique(together, axis=0, return_counts=True)
        shares = (counts / dataset.record_count).astype(np.float32)
        return cls(np.ascontiguousarray(found[:, :-1]), found[:, -1:], shares[:, np.newaxis])

    def mean_gradient(self, points: NDArray[np.float32], loss: ScoreLoss) -> NDArray[np.float32]:
        """Compute the mean gradient without the regulariser at each of the points, shape (columns, d)."""
        total = np.zeros_like(points)
        for start in range(0, len(self.rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            slopes = loss.slope(self.rows[block] @ points.T, self.labels[block])  # type: ignore[arg-type]
            slopes *= self.shares[block]
            total += slopes.T @ self.rows[block]
        return total
