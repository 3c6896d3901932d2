"""What models are measured by: the regularised risk, and how they do on test records; for many models at once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.learning.losses import LogisticLoss

__all__ = ["LOGISTIC", "SQUARED", "Judge", "ScoreLoss", "risk"]

_Function = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class ScoreLoss:
    """A loss of a score and a label, elementwise.

    Args:
        value: the loss.
        slope: its derivative in the score.
        curvature: its second derivative in the score.
        largest_curvature: bound on it.
        lipschitz: bound on the slope; infinite for the squared loss, which has none.
    """

    value: _Function
    slope: _Function
    curvature: _Function
    largest_curvature: float
    lipschitz: float


_MARGIN = LogisticLoss()


# Functions with names: other processes get them, which work on the stages of an experiment.


def _logistic(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    return _MARGIN.value(scores * labels)


def _logistic_slope(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the derivative in the precision of its arguments, which single precision makes twice as fast."""
    with np.errstate(over="ignore"):  # an infinite power gives the right limit, 0
        return np.asarray(-labels / (1 + np.exp(scores * labels)))


def _logistic_curvature(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    return _MARGIN.second_derivative(scores * labels)


def _squared(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((scores - labels) ** 2 / 2)


def _ones(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.ones_like(scores)


LOGISTIC = ScoreLoss(
    value=_logistic,
    slope=_logistic_slope,
    curvature=_logistic_curvature,
    largest_curvature=_MARGIN.smoothness,
    lipschitz=_MARGIN.lipschitz,
)
"""log(1 + exp(-y s)), labels -1 and +1."""

SQUARED = ScoreLoss(
    value=_squared,
    slope=np.subtract,
    curvature=_ones,
    largest_curvature=1.0,
    lipschitz=float("inf"),
)
"""(s - y)^2 / 2, labels in [-1, 1]."""


def risk(
    models: NDArray[np.float64], dataset: Dataset, *, loss: ScoreLoss, regularization: float
) -> NDArray[np.float64]:
    """Compute J(theta) = mean loss + (lambda / 2) ||theta||^2 of many models.

    Args:
        models: shape (k, d).
        dataset: n records.
        loss: of a record.
        regularization: lambda.

    Returns:
        Shape (k,).
    """
    values = []
    for block in np.array_split(models, max(1, len(models) // 32)):
        scores = dataset.features @ block.T
        values.append(loss.value(scores, dataset.labels[:, np.newaxis]).mean(axis=0))
    return np.asarray(np.concatenate(values) + regularization / 2 * np.sum(models**2, axis=1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Judge:
    """Measures models of one table as the paper does: against the minimum of the risk over all records.

    Args:
        training: the records of all owners.
        test: records that no model has seen.
        loss: of a record.
        regularization: lambda of the common objective.
        optimum: its minimiser over ``training``, without privacy, shape (d,).
    """

    training: Dataset
    test: Dataset
    loss: ScoreLoss
    regularization: float
    optimum: NDArray[np.float64]

    def gaps(self, models: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return J(theta) - J(theta*) on the training records, shape (k,)."""
        all_models = np.concatenate([models, self.optimum[np.newaxis]])
        risks = risk(all_models, self.training, loss=self.loss, regularization=self.regularization)
        return np.asarray(risks[:-1] - risks[-1])

    def qualities(self, models: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of test records predicted right, or for numbers the mean squared error, shape (k,)."""
        measured = []
        for block in np.array_split(models, max(1, len(models) // 32)):
            scores, labels = self.test.features @ block.T, self.test.labels[:, np.newaxis]
            if self.test.class_count == 2:
                measured.append(np.mean(np.where(scores > 0, 1.0, -1.0) == labels, axis=0))
            else:
                measured.append(np.mean((scores - labels) ** 2, axis=0))
        return np.concatenate(measured)

    @property
    def reference(self) -> float:
        """Return the quality of the optimum: what there is without privacy."""
        return float(self.qualities(self.optimum[np.newaxis])[0])
