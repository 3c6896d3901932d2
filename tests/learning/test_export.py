"""Exports predict what the model predicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx.reference import ReferenceEvaluator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from mpcdp.data.schema import CategoricalFeature, Schema
from mpcdp.data.table import read_features
from mpcdp.errors import InputError
from mpcdp.learning.export import to_onnx, to_sklearn
from mpcdp.learning.model import PrivacyStatement, TrainedModel

NUMBERS = [
    {"name": "age", "lower": 0.0, "upper": 100.0},
    {"name": "dose", "lower": -2.0, "upper": 3.0},
]
MIXED = [NUMBERS[0], {"name": "smoker", "categories": ["no", "yes", "was"]}, NUMBERS[1]]
LABELS: dict[str, dict[str, Any]] = {
    "logistic-regression": {"column": "ill", "classes": ["no", "yes"]},
    "huber-svm": {"column": "ill", "classes": ["no", "yes"]},
    "multinomial-logistic-regression": {"column": "kind", "classes": ["a", "b", "c"]},
    "ridge-regression": {"column": "months", "lower": 0.0, "upper": 240.0},
}
KINDS = {"logistic-regression": LogisticRegression, "huber-svm": LinearSVC, "ridge-regression": Ridge}


def _model(kind: Any, features: list[dict[str, Any]], *, radius: float) -> TrainedModel:
    schema = Schema.model_validate({"row_radius": radius, "label": LABELS[kind], "features": features})
    outputs = 3 if kind == "multinomial-logistic-regression" else 1
    generator = np.random.default_rng(len(kind))
    return TrainedModel(
        task="t",
        task_digest="00" * 32,
        session="11" * 32,
        kind=kind,
        record_schema=schema,
        coefficients=tuple(generator.normal(size=outputs * schema.dimension).tolist()),
        owners=("a", "b"),
        privacy=PrivacyStatement(epsilon=1.0, delta=1e-6, relation="replace-one", text="..."),
    )


def _frame(schema: Schema) -> pd.DataFrame:
    """Return cells inside, outside and on the bounds, missing and unknown ones."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": generator.uniform(-50, 150, size=60),
            "smoker": generator.choice(["no", "yes", "was", "?"], size=60),
            "dose": generator.normal(scale=3, size=60),
        }
    )
    frame.loc[0, ["age", "dose"]] = [0.0, 3.0]
    frame.loc[1, "age"] = np.nan
    return frame[[feature.name for feature in schema.features]]


def _oracle(model: TrainedModel, frame: pd.DataFrame, path: Path) -> tuple[np.ndarray[Any, Any], list[str]]:
    frame.to_parquet(path)
    features = read_features(path, model.record_schema)
    return model.decision(features), model.predict(features)


@pytest.mark.parametrize("radius", [0.5, 4.0])  # most rows are shortened, or none
@pytest.mark.parametrize("features", [NUMBERS, MIXED], ids=["numbers", "mixed"])
@pytest.mark.parametrize("kind", LABELS)
def test_a_pipeline_predicts_the_same(tmp_path: Path, kind: str, features: list[dict[str, Any]], radius: float) -> None:
    model = _model(kind, features, radius=radius)
    frame = _frame(model.record_schema)
    scores, labels = _oracle(model, frame, tmp_path / "t.parquet")
    pipeline = to_sklearn(model)
    table = frame if features is MIXED else frame.to_numpy()
    last = pipeline.named_steps["model"]
    if kind == "ridge-regression":
        assert type(last) is Ridge
        np.testing.assert_allclose(np.clip(pipeline.predict(table), 0, 240), np.array(labels, dtype=float), rtol=1e-7)
    else:
        assert type(last) is KINDS.get(kind, LogisticRegression)
        np.testing.assert_allclose(pipeline.decision_function(table), scores, rtol=1e-9, atol=1e-12)
        assert list(pipeline.predict(table)) == labels


@pytest.mark.parametrize("radius", [0.5, 4.0])
@pytest.mark.parametrize("features", [NUMBERS, MIXED], ids=["numbers", "mixed"])
@pytest.mark.parametrize("kind", LABELS)
def test_an_onnx_graph_predicts_the_same(
    tmp_path: Path, kind: str, features: list[dict[str, Any]], radius: float
) -> None:
    model = _model(kind, features, radius=radius)
    frame = _frame(model.record_schema)
    frame.loc[2, "age"] = np.inf
    scores, labels = _oracle(model, frame, tmp_path / "t.parquet")
    inputs = {
        feature.name: frame[[feature.name]].to_numpy(
            dtype=object if isinstance(feature, CategoricalFeature) else np.float64
        )
        for feature in model.record_schema.features
    }
    predicted, computed = map(np.asarray, ReferenceEvaluator(to_onnx(model)).run(["label", "scores"], inputs))
    np.testing.assert_allclose(computed, scores.reshape(len(scores), -1), rtol=1e-12, atol=1e-14)
    if kind == "ridge-regression":
        np.testing.assert_allclose(predicted[:, 0], np.array(labels, dtype=float), rtol=1e-8)
    else:
        assert predicted[:, 0].tolist() == labels


def test_classes_may_have_their_own_values(tmp_path: Path) -> None:
    model = _model("logistic-regression", NUMBERS, radius=1.0)
    assert set(to_sklearn(model, classes=(0, 1)).predict(_frame(model.record_schema).to_numpy())) <= {0, 1}


def test_a_module_is_refused() -> None:
    content = _model("logistic-regression", NUMBERS, radius=1.0).model_dump()
    source = {"factory": "mpcdp.learning.modules:small_mlp", "loss": "cross-entropy", "seed": 0}
    model = TrainedModel.model_validate({**content, "kind": "module", "module": source})
    for export in (to_onnx, to_sklearn):
        with pytest.raises(InputError, match="is a PyTorch module"):
            export(model)
