"""Released linear models in other libraries' forms: scikit-learn pipelines and ONNX graphs.

Both take the columns as they stand in a table and repeat what `mpcdp.data.table` does with them: clip to the public
bounds, map to [-1, 1], one coordinate per category, a missing number in the middle, long rows shortened to the unit
ball. So their scores are those of `TrainedModel.decision`, up to rounding. Texts are compared as they are: spaces
around them are not removed.

scikit-learn and onnx are imported when an export is made, and not before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import CLIPPED_NORM, clip_rows
from mpcdp.data.schema import CategoricalFeature, Schema
from mpcdp.errors import InputError
from mpcdp.learning.model import TrainedModel
from mpcdp.learning.scores import output_count

if TYPE_CHECKING:
    import onnx

__all__ = ["to_onnx", "to_sklearn", "unit_rows"]

_OPSET, _IR_VERSION = 19, 9


def unit_rows(features: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Append the bias coordinate to mapped features and shorten long rows, as a model's rows are; shape (n, d)."""
    return clip_rows(np.column_stack([features, np.ones(len(features))]), radius=radius)


def to_sklearn(model: TrainedModel, *, classes: Sequence[Any] | None = None) -> Any:
    """Make a fitted scikit-learn pipeline of a linear model.

    Its last step, ``model``, is a plain LogisticRegression, LinearSVC or Ridge with its attributes set; the steps
    before are scikit-learn's own, and `unit_rows`.

    Args:
        model: the released model.
        classes: what to predict instead of the schema's texts, in their order.

    Returns:
        A pipeline that takes a table with the schema's features as columns, in its order: an array if all are numbers,
        a DataFrame otherwise. A predicted number is not clipped to its bounds.

    Raises:
        InputError: the model is a PyTorch module.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    schema = model.record_schema
    theta = _coefficients(model)
    rows = FunctionTransformer(unit_rows, kw_args={"radius": schema.row_radius})
    columns = _columns(schema)
    pipeline = Pipeline([("columns", columns), ("rows", rows), ("model", _final_step(model, theta, classes))])
    rows.fit(columns.fit_transform(_public_table(schema)))
    return pipeline


def _final_step(model: TrainedModel, theta: NDArray[np.float64], classes: Sequence[Any] | None) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.svm import LinearSVC

    label = model.record_schema.label
    step: Any
    if label.kind == "number":
        lower, upper = label.bounds
        half = (upper - lower) / 2
        step = Ridge()
        step.coef_, step.intercept_ = theta[0] * half, lower + half
    else:
        step = LinearSVC() if model.kind == "huber-svm" else LogisticRegression()
        # The bias is a coordinate of the rows, as it is shortened with them.
        step.coef_, step.intercept_ = theta, np.zeros(len(theta))
        step.classes_ = np.asarray(label.classes if classes is None else classes)
        step.n_iter_ = np.zeros(1, dtype=np.int32)
    step.n_features_in_ = theta.shape[1]
    return step


def _columns(schema: Schema) -> Any:
    """Make the transformer of a table's columns to coordinates in [-1, 1]."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

    def numbers() -> Any:
        middle = SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
        return make_pipeline(MinMaxScaler(feature_range=(-1, 1), clip=True), middle)

    if not any(isinstance(feature, CategoricalFeature) for feature in schema.features):
        return numbers()
    return ColumnTransformer(
        [
            (
                feature.name,
                OneHotEncoder(categories=[list(feature.categories)], handle_unknown="ignore", sparse_output=False)
                if isinstance(feature, CategoricalFeature)
                else numbers(),
                [feature.name],
            )
            for feature in schema.features
        ]
    )


def _public_table(schema: Schema) -> Any:
    """Return two records that hold nothing but public bounds: what the transformers are fitted on."""
    columns = {
        feature.name: [feature.categories[0]] * 2
        if isinstance(feature, CategoricalFeature)
        else [feature.lower, feature.upper]
        for feature in schema.features
    }
    if any(isinstance(feature, CategoricalFeature) for feature in schema.features):
        import pandas as pd

        return pd.DataFrame(columns)
    return np.array(list(columns.values()), dtype=np.float64).T


def to_onnx(model: TrainedModel) -> "onnx.ModelProto":
    """Make an ONNX graph of a linear model, in double precision.

    Returns:
        A graph with one input per feature, named after its column, shape (n, 1): doubles, or strings for a column of
        categories. Its outputs are ``label``, shape (n, 1) (a string, or the number in the column's own units), and
        ``scores``, shape (n, K).

    Raises:
        InputError: the model is a PyTorch module.
    """
    import onnx

    schema, theta = model.record_schema, _coefficients(model)
    graph = _Graph()
    parts = [
        _categories(graph, feature) if isinstance(feature, CategoricalFeature) else _number(graph, feature)
        for feature in schema.features
    ]
    ones = graph.add("ConstantOfShape", graph.add("Shape", graph.add("Slice", parts[0], *graph.first_column())))
    graph.nodes[-1].attribute.append(onnx.helper.make_attribute("value", onnx.numpy_helper.from_array(np.ones(1))))
    rows = graph.add("Concat", *parts, ones, axis=1)
    lengths = graph.add("Sqrt", graph.add("ReduceSumSquare", rows, graph.constant(np.array([1])), keepdims=1))
    factors = graph.add(
        "Min", graph.constant(1 / schema.row_radius), graph.add("Div", graph.constant(CLIPPED_NORM), lengths)
    )
    graph.add("MatMul", graph.add("Mul", rows, factors), graph.constant(theta.T), output="scores")
    kind = _label(graph, schema)
    made = onnx.helper.make_graph(
        graph.nodes,
        model.task,
        [_declared(feature.name, isinstance(feature, CategoricalFeature)) for feature in schema.features],
        [
            onnx.helper.make_tensor_value_info("label", kind, [None, 1]),
            onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.DOUBLE, [None, len(theta)]),
        ],
        graph.constants,
    )
    opset = onnx.helper.make_opsetid("", _OPSET)
    proto = onnx.helper.make_model(made, producer_name="mpcdp", opset_imports=[opset], ir_version=_IR_VERSION)
    onnx.checker.check_model(proto, full_check=True)
    return proto


class _Graph:
    """Nodes and constants under construction."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """Add a constant and return its name."""
        import onnx

        name = f"constant-{len(self.constants)}"
        array = np.asarray(value)
        self.constants.append(onnx.numpy_helper.from_array(array.astype(object) if array.dtype.kind == "U" else array))
        self.constants[-1].name = name
        return name

    def add(self, operation: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node and return its output's name."""
        import onnx

        name = output or f"value-{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def first_column(self) -> tuple[str, str, str]:
        """Return what a Slice needs to keep the first column."""
        return self.constant(np.array([0])), self.constant(np.array([1])), self.constant(np.array([1]))


def _number(graph: _Graph, feature: Any) -> str:
    """Map a number to [-1, 1]; one that is not finite becomes 0."""
    clipped = graph.add("Clip", feature.name, graph.constant(feature.lower), graph.constant(feature.upper))
    width = graph.constant(feature.upper - feature.lower)
    share = graph.add("Div", graph.add("Sub", clipped, graph.constant(feature.lower)), width)
    scaled = graph.add("Sub", graph.add("Mul", graph.constant(2.0), share), graph.constant(1.0))
    unknown = graph.add("Or", graph.add("IsNaN", feature.name), graph.add("IsInf", feature.name))
    return graph.add("Where", unknown, graph.constant(0.0), scaled)


def _categories(graph: _Graph, feature: CategoricalFeature) -> str:
    """Make one 0/1 coordinate per category."""
    import onnx

    equal = graph.add("Equal", feature.name, graph.constant([list(feature.categories)]))
    return graph.add("Cast", equal, to=onnx.TensorProto.DOUBLE)


def _label(graph: _Graph, schema: Schema) -> int:
    """Turn scores into what is predicted; return its type."""
    import onnx

    label = schema.label
    if label.kind == "number":
        lower, upper = label.bounds
        clipped = graph.add("Clip", "scores", graph.constant(-1.0), graph.constant(1.0))
        share = graph.add("Div", graph.add("Add", clipped, graph.constant(1.0)), graph.constant(2.0))
        scaled = graph.add("Mul", share, graph.constant(upper - lower))
        graph.add("Add", scaled, graph.constant(lower), output="label")
        return int(onnx.TensorProto.DOUBLE)
    if label.kind == "binary":
        first, second = (graph.constant([text]) for text in label.classes)
        graph.add("Where", graph.add("Greater", "scores", graph.constant(0.0)), second, first, output="label")
    else:
        best = graph.add("ArgMax", "scores", axis=1, keepdims=1)
        graph.add("Gather", graph.constant(list(label.classes)), best, output="label")
    return int(onnx.TensorProto.STRING)


def _declared(name: str, is_text: bool) -> Any:
    import onnx

    kind = onnx.TensorProto.STRING if is_text else onnx.TensorProto.DOUBLE
    return onnx.helper.make_tensor_value_info(name, kind, [None, 1])


def _coefficients(model: TrainedModel) -> NDArray[np.float64]:
    """Return a linear model's coefficients, shape (K, d)."""
    if model.module is not None:
        raise InputError(
            f"model: {model.module.factory} is a PyTorch module, which this export does not know; load its parameters "
            "into the module and use torch's own export"
        )
    return np.asarray(model.coefficients, dtype=np.float64).reshape(output_count(model.record_schema.label), -1)
