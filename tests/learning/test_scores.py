"""Scores, predictions and how good they are, for every kind of label."""

from typing import Any

import numpy as np
import pytest

from mpcdp.data.schema import Label, Schema
from mpcdp.learning.model import PrivacyStatement, TrainedModel
from mpcdp.learning.scores import output_count, quality, scores

_FEATURES = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, -0.5]])


def _model(label: dict[str, Any], kind: Any, coefficients: tuple[float, ...]) -> TrainedModel:
    schema = Schema.model_validate({"label": label, "features": [{"name": "x", "lower": 0.0, "upper": 1.0}]})
    privacy = PrivacyStatement(epsilon=1.0, delta=1e-6, relation="", text="")
    return TrainedModel(
        task="t",
        task_digest="",
        session="",
        kind=kind,
        record_schema=schema,
        coefficients=coefficients,
        owners=(),
        privacy=privacy,
    )


def test_two_classes() -> None:
    model = _model({"column": "y", "classes": ["no", "yes"]}, "logistic-regression", (1.0, -2.0))
    np.testing.assert_allclose(model.decision(_FEATURES), [1.0, -2.0, 1.5])
    assert model.predict(_FEATURES) == ["yes", "no", "yes"]
    label = model.record_schema.label
    assert quality(model.decision(_FEATURES), np.array([1.0, 1.0, 1.0]), label=label) == pytest.approx(2 / 3)


def test_several_classes() -> None:
    coefficients = (1.0, 0.0, 0.0, 2.0, -1.0, -3.0)
    model = _model({"column": "y", "classes": ["a", "b", "c"]}, "multinomial-logistic-regression", coefficients)
    np.testing.assert_allclose(
        model.decision(_FEATURES), np.array([[1.0, 0.0, -1.0], [0.0, 2.0, -3.0], [0.5, -1.0, 1.0]])
    )
    assert model.predict(_FEATURES) == ["a", "b", "c"]
    assert output_count(model.record_schema.label) == 3
    assert quality(model.decision(_FEATURES), np.array([0.0, 1.0, 0.0]), label=model.record_schema.label) == 2 / 3


def test_numbers_come_back_in_their_own_units_within_their_bounds() -> None:
    model = _model({"column": "y", "lower": 100.0, "upper": 300.0}, "ridge-regression", (0.5, -7.0))
    assert model.predict(_FEATURES) == ["250", "100", "300"]


def test_explained_variance() -> None:
    label = Label(column="y", lower=0.0, upper=1.0)
    labels = np.array([-0.5, 0.0, 0.5])
    assert quality(labels.copy(), labels, label=label) == 1.0
    assert quality(np.zeros(3), labels, label=label) == 0.0
    assert quality(np.array([-0.5, 0.0, 0.0]), labels, label=label) == pytest.approx(0.5)
    assert np.isnan(quality(np.zeros(2), np.zeros(2), label=label))


def test_coefficients_have_to_fit_the_label() -> None:
    with pytest.raises(ValueError, match="2 coefficients for 6"):
        _model({"column": "y", "classes": ["a", "b", "c"]}, "multinomial-logistic-regression", (1.0, 2.0))


def test_one_score_per_row_is_one_dimensional() -> None:
    label = Label(column="y", classes=("a", "b"))
    assert scores(np.array([1.0, 1.0]), _FEATURES, label=label).shape == (3,)
