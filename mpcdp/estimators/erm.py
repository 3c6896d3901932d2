"""Any PyTorch module and loss, by empirical risk minimisation with clipped per-record gradients."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.schema import Schema
from mpcdp.estimators.base import PrivateClassifier, number_label
from mpcdp.estimators.federation import Federation
from mpcdp.estimators.inputs import Bounds
from mpcdp.learning.model import TrainedModel
from mpcdp.learning.record_loss import is_imported

__all__ = ["PrivateERM"]


class PrivateERM(PrivateClassifier):
    """A PyTorch module trained across owners: a classifier with cross entropy, a regressor with squared error.

    With a loss of your own it is a classifier if you give ``classes``, a regressor if you give ``target_bounds``.

    Args:
        module: the factory of the module, a function that every process can import or its name,
            ``"package.module:function"``; called as ``function(inputs=d, outputs=K)``.
        loss: ``"cross-entropy"`` (give ``classes``), ``"squared-error"`` (give ``target_bounds``), or the loss of one
            record, a function that every process can import or its name, ``"package.module:function"``; called as
            ``function(scores, label)``, see `mpcdp.learning.record_loss` (give one of the two).
        epsilon: of (epsilon, delta)-differential privacy, for one fit; required.
        delta: likewise; well below one over the number of records; required.
        bounds: public bounds of the features; see `PrivateLogisticRegression`; required.
        classes: what y may hold, of a classifier.
        target_bounds: public bounds of the number to predict, of a regressor.
        federation: where sessions run; required.
        regularization: lambda of (lambda / 2) ||theta||^2.
        rounds: chosen from public numbers when left out, as are the next two.
        learning_rate: of a step.
        clipping_norm: every record's gradient is shortened to it.
        seed: public; of the module's first parameters.
        row_radius: see `PrivateLogisticRegression`.
    """

    def __init__(
        self,
        module: str | Callable[..., Any] = "mpcdp.learning.modules:small_mlp",
        loss: str | Callable[..., Any] = "cross-entropy",
        *,
        epsilon: float | None = None,
        delta: float | None = None,
        bounds: Bounds | None = None,
        classes: Sequence[Any] | None = None,
        target_bounds: tuple[float, float] | None = None,
        federation: Federation | None = None,
        regularization: float = 1e-4,
        rounds: int | None = None,
        learning_rate: float | None = None,
        clipping_norm: float | None = None,
        seed: int = 0,
        row_radius: float | None = None,
    ) -> None:
        self.module = module
        self.loss = loss
        self.epsilon = epsilon
        self.delta = delta
        self.bounds = bounds
        self.classes = classes
        self.target_bounds = target_bounds
        self.federation = federation
        self.regularization = regularization
        self.rounds = rounds
        self.learning_rate = learning_rate
        self.clipping_norm = clipping_norm
        self.seed = seed
        self.row_radius = row_radius

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class, or the number, of each row, shape (n,)."""
        if self._is_regressor:
            scores = self._scores(X)
            return np.asarray(self.model_.record_schema.label.unscale(scores))
        return super().predict(X)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy, or R^2 for numbers; on private rows, it is outside of every guarantee."""
        if not self._is_regressor:
            return float(super().score(X, y, sample_weight))
        from sklearn.metrics import r2_score

        return float(r2_score(y, self.predict(X), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self._is_regressor:
            from sklearn.utils import RegressorTags

            tags.estimator_type, tags.classifier_tags, tags.regressor_tags = "regressor", None, RegressorTags()
        return tags

    @property
    def _has_own_loss(self) -> bool:
        return not isinstance(self.loss, str) or is_imported(self.loss)

    @property
    def _is_regressor(self) -> bool:
        if not self._has_own_loss:
            return bool(self.loss == "squared-error")
        if isinstance(self.federation, Federation) and self.federation.task is not None:
            return self.federation.task.schema_.label.kind == "number"
        return self.target_bounds is not None

    def _label(self) -> dict[str, Any]:
        if self._has_own_loss and (self.classes is None) == (self.target_bounds is None):
            raise ValueError(
                "classes, target_bounds: a loss of your own needs one of them, what y may hold or the bounds of a "
                f"number, got {'none' if self.classes is None else 'both'}"
            )
        return number_label(self.target_bounds) if self._is_regressor else super()._label()

    def _keep(self, model: TrainedModel, federation: Federation) -> None:
        super()._keep(model, federation)
        if self._is_regressor:
            del self.classes_

    def _check_target(self, y: Any) -> NDArray[Any]:
        return np.asarray(y, dtype=np.float64) if self._is_regressor else super()._check_target(y)

    def _label_cells(self, y: NDArray[Any]) -> Any:
        return y if self._is_regressor else super()._label_cells(y)

    def _sections(self, record_counts: Sequence[int], schema: Schema) -> dict[str, dict[str, Any]]:
        chosen = {name: getattr(self, name) for name in ("rounds", "learning_rate", "clipping_norm")}
        return {
            "model": {
                "kind": "module",
                "regularization": float(self.regularization),
                "factory": _name_of(self.module, parameter="module"),
                "loss": _name_of(self.loss, parameter="loss"),
                "seed": int(self.seed),
            },
            "method": {
                "kind": "gradient-perturbation",
                **{name: value for name, value in chosen.items() if value is not None},
            },
        }


def _name_of(function: str | Callable[..., Any], *, parameter: str) -> str:
    """Return the name by which every process imports a function.

    Raises:
        ValueError: other processes could not import it.
    """
    if isinstance(function, str):
        return function
    name = f"{function.__module__}:{function.__qualname__}"
    if function.__module__ == "__main__" or "." in function.__qualname__:
        raise ValueError(
            f"{parameter}: other processes cannot import {name}; put the function into a file of its own, at top level"
        )
    if getattr(importlib.import_module(function.__module__), function.__qualname__, None) is not function:
        raise ValueError(f"{parameter}: {name} is not this function; give one that can be imported by its name")
    return name
