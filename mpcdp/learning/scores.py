"""From a model's coefficients to scores, and from scores to how good they are."""

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.schema import Label
from mpcdp.learning.module_model import ModuleModel

__all__ = ["output_count", "quality", "scores"]


def output_count(label: Label) -> int:
    """Return the number of scores a row gets: one, or one for each of three or more classes."""
    return label.class_count if label.kind == "multi-class" else 1


def scores(
    coefficients: NDArray[np.float64],
    features: NDArray[np.float64],
    *,
    label: Label,
    module: ModuleModel | None = None,
) -> NDArray[np.float64]:
    """Return each row's scores, shape (n,), or (n, K) for three or more classes.

    Args:
        coefficients: shape (d,), or (K d,) with those of each class in turn; or the module's parameters, shape (p,).
        features: shape (n, d).
        label: what is predicted.
        module: the PyTorch module whose parameters they are; None for linear models.
    """
    values: NDArray[np.float64]
    if module is None:
        values = features @ coefficients.reshape(output_count(label), -1).T
    else:
        values = module.scores(coefficients, features)
    return values[:, 0] if values.shape[1] == 1 else values


def quality(values: NDArray[np.float64], labels: NDArray[np.float64], *, label: Label) -> float:
    """Return the share of rows whose class is predicted right, or for numbers the coefficient of determination R^2.

    Args:
        values: scores, as `scores` returns them.
        labels: shape (n,), as `mpcdp.data.dataset.Dataset` has them.
        label: what is predicted.
    """
    if label.kind == "binary":
        return float(np.mean(np.where(values > 0, 1.0, -1.0) == labels))
    if label.kind == "multi-class":
        return float(np.mean(values.argmax(axis=1) == labels))
    spread = float(np.sum((labels - labels.mean()) ** 2))
    missed = float(np.sum((labels - np.clip(values, -1, 1)) ** 2))
    return 1 - missed / spread if spread else float("nan")
