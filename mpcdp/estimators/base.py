"""What all estimators share: from parameters and rows to a task, its session, and a fitted model."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mpcdp.config import check_content
from mpcdp.data.schema import NumericFeature, Schema
from mpcdp.data.table import rows_of, values_of
from mpcdp.errors import TaskError
from mpcdp.estimators.advice import warn_of_useless_model
from mpcdp.estimators.federation import Federation
from mpcdp.estimators.inputs import OwnerTable, cells_of, feature_sections, stack_tables
from mpcdp.learning.model import TrainedModel
from mpcdp.task import Task

__all__ = ["PrivateClassifier", "PrivateEstimator", "PrivateRegressor"]

_LABEL = "label"
_OUTSIDE = (
    "Not covered: what the caller computed from the same records outside of sessions. A score on private rows, a "
    "scaler or a selection of features fitted on them, and a choice between models by such scores can each reveal "
    "records; use public rows for them. Every fit of a search is a session and was charged."
)


class PrivateEstimator(BaseEstimator):
    """Base of the estimators; a subclass says what is trained and how.

    Attributes after `fit`: ``model_`` (the released `TrainedModel`), ``epsilon_`` and ``delta_`` (what this fit cost
    every record), ``privacy_statement_`` (the guarantee and everything it assumes, and what is outside of it),
    ``owners_``, ``n_features_in_`` and, with named columns, ``feature_names_in_``.
    """

    def fit(self, X: Any, y: Any = None, *, owners: Any = None) -> Self:
        """Run one session over the owners' rows; it is charged to every owner's ledger.

        Args:
            X: one table, shape (n, d), a DataFrame for columns by name; or a list of tables, one per owner; or tables
                by owner's name. Cells outside the bounds are clipped; what is no number is the middle of the bounds.
            y: the labels, in the same form. A label that is not declared makes its record contribute nothing.
            owners: whose row is whose, shape (n,): names or numbers. One owner has all rows when left out.

        Warns (UserWarning, for the caller alone) when labels or a whole column do not fit what is declared, and when
        the noise will drown the model.

        Raises:
            ValueError: a required parameter is missing, or X, y and owners do not fit each other.
            TaskError: the parameters contradict each other.
            PlanError: there is no plan within the budget.
            BudgetError: an owner's ledger refuses the session; nothing was released.
        """
        federation = self._federation()
        X, y, whose = stack_tables(X, y, owners)
        X, y = self._check_rows(X, y)
        if whose is None:
            whose = [getattr(federation, "owner", "owner-1")] * len(X)
        if len(whose) != len(X):
            raise ValueError(f"owners has {len(whose)} entries for {len(X)} rows: say for every row whose it is")
        schema = self._schema(federation)
        columns, labels = cells_of(X, schema), self._label_cells(y)
        tables = {name: _rows_of_owner(columns, labels, whose, name) for name in dict.fromkeys(whose)}
        content = self._content(schema, {name: table.record_count for name, table in tables.items()}, federation)
        task = federation.task or check_content(content, Task, TaskError, source=type(self).__name__)
        if federation.task is None:  # an owner among others has `mpcdp plan` and `mpcdp check`, before it joins
            warn_of_useless_model(task, schema, columns, labels)
        self._keep(federation.train(task, content, tables), federation)
        return self

    def to_sklearn(self) -> Any:
        """Return a plain scikit-learn pipeline with this model's coefficients; see `mpcdp.learning.export`."""
        from mpcdp.learning.export import to_sklearn

        check_is_fitted(self)
        return to_sklearn(self.model_, classes=getattr(self, "classes_", None))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # no record's value makes a fit fail
        tags.target_tags.required = True
        tags.non_deterministic = True
        return tags

    # -- what subclasses say ---------------------------------------------------------------------------------------

    def _sections(self, record_counts: Sequence[int], schema: Schema) -> dict[str, dict[str, Any]]:
        """Return the task's ``[model]`` and ``[method]``."""
        raise NotImplementedError

    def _label(self) -> dict[str, Any]:
        """Return the task's ``[schema.label]`` without its column."""
        raise NotImplementedError

    def _check_target(self, y: Any) -> NDArray[Any]:
        raise NotImplementedError

    def _label_cells(self, y: NDArray[Any]) -> Any:
        raise NotImplementedError

    # -- steps -----------------------------------------------------------------------------------------------------

    def _federation(self) -> Federation:
        if not isinstance(self.federation, Federation):
            raise ValueError(
                "federation is required: where sessions run and whose ledgers are charged; pass Federation.local() for "
                "real processes on this machine, or Federation.in_process() in tests"
            )
        if self.federation.task is None:
            for name in ("epsilon", "delta"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name} is required: what this fit may cost every record, such as epsilon=1.0")
        return self.federation

    def _check_rows(self, X: Any, y: Any, *, reset: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
        X = self._named_columns(X)
        kind = np.float64 if self._all_numbers() else None
        if y is None and not reset:
            return validate_data(self, X, reset=False, dtype=kind, ensure_all_finite=False), np.empty(0)
        X, y = validate_data(self, X, y, dtype=kind, ensure_all_finite=False, ensure_min_samples=2)
        return X, self._check_target(y)

    def _named_columns(self, X: Any) -> Any:
        """Take the declared columns of a DataFrame, by name."""
        if isinstance(self.bounds, Mapping):
            if not hasattr(X, "columns"):
                raise ValueError("bounds has names: give a DataFrame, or bounds in the order of the columns")
            if missing := [name for name in self.bounds if name not in X.columns]:
                raise ValueError(f"X lacks the columns {', '.join(map(repr, missing))} that bounds declares")
            return X[list(self.bounds)]
        return X

    def _all_numbers(self) -> bool:
        if isinstance(self.federation, Federation) and self.federation.task is not None:
            return all(isinstance(each, NumericFeature) for each in _schema_of(self.federation))
        entries = self.bounds.values() if isinstance(self.bounds, Mapping) else self.bounds or ()
        return not any(isinstance(part, str) for entry in entries for part in np.atleast_1d(entry).tolist())

    def _schema(self, federation: Federation) -> Schema:
        if federation.task is not None:
            return federation.task.schema_
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = [f"x{number}" for number in range(self.n_features_in_)]
        features = feature_sections(self.bounds, [str(name).strip() or "x" for name in names])
        radius = self.row_radius
        if radius is None:  # about the length of a row that is spread evenly over its bounds
            radius = float(f"{np.sqrt(1 + len(features) / 3):.3g}")
        taken = {feature["name"] for feature in features}
        column = next(name for name in (_LABEL, *(f"{_LABEL}-{n}" for n in range(9))) if name not in taken)
        content = {"row_radius": float(radius), "label": {"column": column, **self._label()}, "features": features}
        return check_content(content, Schema, TaskError, source=type(self).__name__)

    def _content(self, schema: Schema, record_counts: Mapping[str, int], federation: Federation) -> dict[str, Any]:
        if federation.task is not None:
            self._check_agreed(federation.task)
            return {}
        joint = federation.noise == "joint"
        deadline = federation.deadline_seconds
        return {
            # A task runs once: every fit has a name, and so a digest, of its own.
            "task": {"version": 1, "name": f"fit-{secrets.token_hex(8)}"},
            **self._sections(list(record_counts.values()), schema),
            "privacy": {
                "epsilon": float(self.epsilon),
                "delta": float(self.delta),
                "mechanism": "gaussian",
                "noise": federation.noise,
            },
            "schema": schema.model_dump(mode="json"),
            "deadlines": {"start_seconds": deadline, "contribution_seconds": deadline, "round_seconds": deadline},
            "coordinator": {"name": "coordinator"},
            **({"dealer": {"name": "dealer"}} if joint else {}),
            "compute_parties": [{"name": f"party-{number}"} for number in range(1, federation.parties + 1)],
            "owners": [{"name": name, "record_count": count} for name, count in record_counts.items()],
        }

    def _check_agreed(self, task: Task) -> None:
        """Refuse parameters that contradict what was agreed."""
        asked = {"epsilon": task.privacy.epsilon, "delta": task.privacy.delta}
        for name, agreed in asked.items():
            if (own := getattr(self, name)) not in (None, agreed):
                raise ValueError(f"{name} is {own}, but the task of this federation says {agreed}: leave it out")
        kind = self._sections(task.record_counts, task.schema_)["model"]["kind"]
        if kind != task.model.kind:
            raise ValueError(f"{type(self).__name__} trains {kind}, but the task says {task.model.kind}")

    def _keep(self, model: TrainedModel, federation: Federation) -> None:
        self.model_ = model
        self.epsilon_, self.delta_ = model.privacy.epsilon, model.privacy.delta
        self.owners_ = model.owners
        paid = federation.ledger
        limit = "no limit was set" if paid.limit is None else f"the limit is {paid.limit}"
        total = f"All sessions so far together: {paid.total} for the owner who paid most; {limit}."
        self.privacy_statement_ = "\n".join([model.privacy.text, federation.statement(), _OUTSIDE, total])

    def _scores(self, X: Any) -> NDArray[np.float64]:
        """Return each row's scores, shape (n,) or (n, K)."""
        check_is_fitted(self)
        X, _ = self._check_rows(X, None, reset=False)
        schema = self.model_.record_schema
        return self.model_.decision(rows_of(values_of(cells_of(X, schema), None, schema), schema))


class PrivateClassifier(ClassifierMixin, PrivateEstimator):
    """Base of the classifiers; ``classes_`` are the declared classes in their declared order."""

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of each row, shape (n,)."""
        scores = self._scores(X)
        positions = scores.argmax(axis=1) if scores.ndim == 2 else (scores > 0).astype(np.int64)
        return np.asarray(self.classes_[positions])

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return each row's scores: shape (n,), positive for the second class; or (n, K), largest for the class."""
        return self._scores(X)

    def _label(self) -> dict[str, Any]:
        return {"classes": list(self._class_texts().values())}

    def _class_texts(self) -> dict[Any, str]:
        """Map the declared classes to the texts that stand for them in a table."""
        if self.classes is None:
            raise ValueError(
                'classes is required: what y may hold, such as classes=["benign", "malignant"]; they are agreed on, '
                "never looked up in the records"
            )
        texts = {each: str(each) for each in np.asarray(self.classes).tolist()}
        if len(set(texts.values())) != len(self.classes) or len(texts) < 2:
            raise ValueError(f"classes: expected two or more different ones, got {list(self.classes)}")
        return texts

    def _check_target(self, y: Any) -> NDArray[Any]:
        check_classification_targets(y)
        return np.asarray(y)

    def _label_cells(self, y: NDArray[Any]) -> list[str]:
        if isinstance(self.federation, Federation) and self.federation.task is not None:
            return [str(each) for each in y.tolist()]
        texts = self._class_texts()
        return [texts.get(each, "") for each in y.tolist()]

    def _keep(self, model: TrainedModel, federation: Federation) -> None:
        super()._keep(model, federation)
        declared = model.record_schema.label.classes
        self.classes_ = np.asarray(declared if self.classes is None else self.classes)


class PrivateRegressor(RegressorMixin, PrivateEstimator):
    """Base of the regressors."""

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the predicted number of each row, between the target's bounds, shape (n,)."""
        scores = self._scores(X)
        return self.model_.record_schema.label.unscale(scores)

    def _label(self) -> dict[str, Any]:
        return number_label(self.target_bounds)

    def _check_target(self, y: Any) -> NDArray[Any]:
        return np.asarray(y, dtype=np.float64)

    def _label_cells(self, y: NDArray[Any]) -> NDArray[Any]:
        return y


def number_label(target_bounds: Any) -> dict[str, Any]:
    """Write the declared bounds of a number as ``[schema.label]``.

    Raises:
        ValueError: there are none.
    """
    if target_bounds is None:
        raise ValueError(
            "target_bounds is required: public bounds of the number to predict, such as (0, 500000); they are agreed "
            "on, never looked up in the records"
        )
    lower, upper = target_bounds
    return {"lower": float(lower), "upper": float(upper)}


def _schema_of(federation: Federation) -> Sequence[Any]:
    return () if federation.task is None else federation.task.schema_.features


def _rows_of_owner(columns: tuple[Any, ...], labels: Any, whose: list[str], name: str) -> OwnerTable:
    mine = np.array([each == name for each in whose])
    return OwnerTable(tuple(_chosen(column, mine) for column in columns), _chosen(labels, mine))


def _chosen(cells: Any, mine: NDArray[np.bool_]) -> Any:
    if isinstance(cells, np.ndarray):
        return np.ascontiguousarray(cells[mine])
    return [cell for cell, chosen in zip(cells, mine, strict=True) if chosen]
