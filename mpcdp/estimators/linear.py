"""Linear models: logistic regression, a support vector classifier, ridge regression."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.schema import Schema
from mpcdp.estimators.base import PrivateClassifier, PrivateRegressor
from mpcdp.estimators.federation import Federation
from mpcdp.estimators.inputs import Bounds
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss, Loss

__all__ = ["PrivateLinearSVC", "PrivateLogisticRegression", "PrivateRidge"]

MethodName = Literal["gradient-perturbation", "output-perturbation"]
_FINEST_CERTIFICATE = 1e-8
_HUBER_WIDTH = 0.5


class _PrivateLinearClassifier(PrivateClassifier):
    """What the two linear classifiers share: their parameters, and the task's sections."""

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        delta: float | None = None,
        bounds: Bounds | None = None,
        classes: Sequence[Any] | None = None,
        federation: Federation | None = None,
        regularization: float = 0.01,
        method: MethodName = "gradient-perturbation",
        rounds: int | None = None,
        row_radius: float | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.bounds = bounds
        self.classes = classes
        self.federation = federation
        self.regularization = regularization
        self.method = method
        self.rounds = rounds
        self.row_radius = row_radius

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _method(self) -> dict[str, Any]:
        return {"kind": self.method, **({} if self.rounds is None else {"rounds": int(self.rounds)})}

    def _margin_sections(
        self, model: dict[str, Any], loss: Loss, record_counts: Sequence[int], schema: Schema
    ) -> dict[str, dict[str, Any]]:
        """Return the sections of a model with a loss of the margin, whose certificate follows from public numbers."""
        content = {**model, "regularization": float(self.regularization)}
        if self.method == "output-perturbation":
            solver = CertifiedSolver(loss=loss, regularization=self.regularization, certificate=_FINEST_CERTIFICATE)
            floor = solver.certificate_floor(record_count=max(record_counts), dimension=schema.dimension)
            content["certificate"] = max(_FINEST_CERTIFICATE, float(f"{2 * floor:.1e}"))
        return {"model": content, "method": self._method()}


class PrivateLogisticRegression(_PrivateLinearClassifier):
    """Logistic regression with differential privacy for every record, trained across owners.

    Args:
        epsilon: of (epsilon, delta)-differential privacy, for one fit; required.
        delta: likewise; well below one over the number of records; required.
        bounds: public bounds of the features: one pair for all, an entry per column, or entries by column name; an
            entry is a pair of numbers or the texts of a column's categories; required.
        classes: what y may hold, two or more; required.
        federation: where sessions run; required.
        regularization: lambda of (lambda / 2) ||theta||^2, on rows in the unit ball.
        method: ``"gradient-perturbation"`` (many rounds) or ``"output-perturbation"`` (one round, two classes).
        rounds: of gradient perturbation; chosen from public numbers when left out.
        row_radius: public length that rows, mapped to [-1, 1] in every feature, are divided by before they are clipped
            to the unit ball; from the number of features when left out.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = self.method == "gradient-perturbation"
        return tags

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class for each row, shape (n, K)."""
        scores = self._scores(X)
        if scores.ndim == 1:
            second = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
            return np.column_stack([1 - second, second])
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def _sections(self, record_counts: Sequence[int], schema: Schema) -> dict[str, dict[str, Any]]:
        if schema.label.kind == "multi-class":
            model = {"kind": "multinomial-logistic-regression", "regularization": float(self.regularization)}
            return {"model": model, "method": self._method()}
        return self._margin_sections({"kind": "logistic-regression"}, LogisticLoss(), record_counts, schema)


class PrivateLinearSVC(_PrivateLinearClassifier):
    """A linear support vector classifier (hinge with a rounded corner) for two classes, trained across owners.

    Args: as `PrivateLogisticRegression`.
    """

    def _sections(self, record_counts: Sequence[int], schema: Schema) -> dict[str, dict[str, Any]]:
        model = {"kind": "huber-svm", "huber_width": _HUBER_WIDTH}
        return self._margin_sections(model, HuberSvmLoss(_HUBER_WIDTH), record_counts, schema)


class PrivateRidge(PrivateRegressor):
    """Ridge regression from one noised release of sums; the ridge is chosen from what was released.

    Args:
        epsilon: of (epsilon, delta)-differential privacy, for one fit; required.
        delta: likewise; well below one over the number of records; required.
        bounds: public bounds of the features; see `PrivateLogisticRegression`; required.
        target_bounds: public bounds of the number to predict; required.
        federation: where sessions run; required.
        row_radius: see `PrivateLogisticRegression`.
    """

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        delta: float | None = None,
        bounds: Bounds | None = None,
        target_bounds: tuple[float, float] | None = None,
        federation: Federation | None = None,
        row_radius: float | None = None,
    ) -> None:
        self.epsilon = epsilon
        self.delta = delta
        self.bounds = bounds
        self.target_bounds = target_bounds
        self.federation = federation
        self.row_radius = row_radius

    def _sections(self, record_counts: Sequence[int], schema: Schema) -> dict[str, dict[str, Any]]:
        return {"model": {"kind": "ridge-regression"}, "method": {"kind": "statistics"}}
