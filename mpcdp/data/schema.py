"""The public description of a table: columns, bounds, categories and classes.

It is part of the task, agreed before anybody looks at a record; nothing in it is ever inferred from a table::

    [schema]
    row_radius = 4.0                     # rows are divided by it, then clipped to the unit ball; default 1.0

    [schema.label]
    column = "diagnosis"
    classes = ["benign", "malignant"]    # two: the second one is +1; three or more: several classes

    [[schema.features]]
    name = "age"
    lower = 0                            # numeric: clipped to the bounds, mapped affinely to [-1, 1]
    upper = 120

    [[schema.features]]
    name = "smoker"
    categories = ["no", "yes"]           # one 0/1 coordinate per category

A number to predict is declared by public bounds instead of classes::

    [schema.label]
    column = "house_value"
    lower = 0                            # clipped to the bounds, mapped affinely to [-1, 1]
    upper = 500000

How a cell becomes numbers stands in `mpcdp.data.table`.
"""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from mpcdp.errors import DataError

__all__ = [
    "DIMENSION_LIMIT",
    "CategoricalFeature",
    "Feature",
    "Label",
    "LabelKind",
    "NumericFeature",
    "Schema",
    "load_schema",
]

DIMENSION_LIMIT = 2**18
"""Most coordinates a row may have; the guard of `mpcdp.data.dataset` against rounding is sized for it."""


def _list_to_tuple(value: Any) -> Any:
    """Take TOML's lists for tuples, which alone would be hashable and unchangeable."""
    return tuple(value) if isinstance(value, list) else value


_TextTuple = Annotated[tuple[str, ...], BeforeValidator(_list_to_tuple)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def _check_texts(texts: tuple[str, ...], what: str) -> None:
    """Refuse texts that no cell can equal (cells are stripped) and texts given twice."""
    for text in texts:
        if not text or text != text.strip():
            raise ValueError(f"{what} {text!r} is empty or begins or ends with a space: no cell would ever match it")
    if len(set(texts)) != len(texts):
        raise ValueError(f"every {what} may be named once only")


LabelKind = Literal["binary", "multi-class", "number"]


class Label(_Section):
    """The column that the model predicts: classes, or a number between public bounds.

    Args:
        column: its name in the table.
        classes: the texts of the classes; of two, the first one is -1 and the second one +1, of more, each is its
            position 0, 1, ...; empty for a number.
        lower: public bound of a number, in the column's units; smaller values are clipped to it, which becomes -1.
        upper: public bound of a number, in the column's units; larger values are clipped to it, which becomes +1.
    """

    column: str
    classes: _TextTuple = ()
    lower: float | None = None
    upper: float | None = None

    @field_validator("classes")
    @classmethod
    def _proper_classes(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(classes) == 1:
            raise ValueError("a label has at least two classes, not 1")
        _check_texts(classes, "class")
        return classes

    @model_validator(mode="after")
    def _classes_or_bounds(self) -> Self:
        has_bounds = self.lower is not None and self.upper is not None
        if has_bounds == bool(self.classes) or (self.lower is None) != (self.upper is None):
            raise ValueError("a label has either classes, or both lower and upper for a number")
        if has_bounds:
            lower, upper = self.bounds
            if not (lower < upper and math.isfinite(upper - lower)):
                raise ValueError(f"a label's lower has to be below upper, both finite, not {lower} and {upper}")
        return self

    @model_serializer(mode="wrap")
    def _declared_alone(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what this kind of label does not have: TOML has no null."""
        content = serialize(self)
        names = ("column", "classes") if self.classes else ("column", "lower", "upper")
        return {name: content[name] for name in names}

    @property
    def class_count(self) -> int:
        """Number of classes K; 0 for a number."""
        return len(self.classes)

    @property
    def kind(self) -> LabelKind:
        """What there is to predict."""
        if not self.classes:
            return "number"
        return "binary" if len(self.classes) == 2 else "multi-class"

    @property
    def bounds(self) -> tuple[float, float]:
        """Public bounds of a number, in the column's units.

        Raises:
            ValueError: the label is a class.
        """
        if self.lower is None or self.upper is None:
            raise ValueError(f"label {self.column!r} is a class, which has no bounds")
        return self.lower, self.upper

    def unscale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map predictions of a number from [-1, 1] back to the column's units; those outside are clipped first.

        Raises:
            ValueError: the label is a class.
        """
        lower, upper = self.bounds
        share = (np.clip(values, -1.0, 1.0) + 1) / 2
        return np.asarray(lower + share * (upper - lower), dtype=np.float64)


class NumericFeature(_Section):
    """A column of numbers; one coordinate.

    Args:
        name: the column's name in the table.
        lower: public bound, in the column's units; smaller values are clipped to it, which becomes -1.
        upper: public bound, in the column's units; larger values are clipped to it, which becomes +1.
    """

    name: str
    lower: float
    upper: float

    @model_validator(mode="after")
    def _proper_interval(self) -> Self:
        if not (self.lower < self.upper and math.isfinite(self.upper - self.lower)):
            raise ValueError(
                f"feature {self.name!r}: lower has to be below upper, both finite, not {self.lower} and {self.upper}"
            )
        return self

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return 1


class CategoricalFeature(_Section):
    """A column of texts; one coordinate per category.

    Args:
        name: the column's name in the table.
        categories: the texts that count; any other text gives a zero in each of the coordinates.
    """

    name: str
    categories: _TextTuple

    @field_validator("categories")
    @classmethod
    def _proper_categories(cls, categories: tuple[str, ...]) -> tuple[str, ...]:
        if not categories:
            raise ValueError("a categorical feature has at least one category")
        _check_texts(categories, "category")
        return categories

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return len(self.categories)


def _kind(feature: Any) -> str:
    """Tell the two kinds of feature apart, so that an error speaks of the kind that was meant."""
    categorical = "categories" in feature if isinstance(feature, dict) else isinstance(feature, CategoricalFeature)
    return "categorical" if categorical else "numeric"


Feature = Annotated[
    Annotated[NumericFeature, Tag("numeric")] | Annotated[CategoricalFeature, Tag("categorical")],
    Discriminator(_kind),
]


class Schema(_Section):
    """The public description of a table.

    Args:
        row_radius: public length that rows are divided by before they are clipped to the unit ball; positive. A row's
            bias coordinate is 1 before the division, so no row is shorter than 1 and values below 1 act like 1. Choose
            about the length of a usual row: a smaller radius clips more rows, a larger one wastes sensitivity.
        label: the column to predict.
        features: the columns to predict it from, in the order of the model's coordinates.
    """

    row_radius: float = 1.0
    label: Label
    features: Annotated[tuple[Feature, ...], BeforeValidator(_list_to_tuple)]

    @field_validator("row_radius")
    @classmethod
    def _positive_radius(cls, row_radius: float) -> float:
        if not (math.isfinite(row_radius) and row_radius > 0):
            raise ValueError(f"row_radius is a positive finite number, not {row_radius}")
        return row_radius

    @model_validator(mode="after")
    def _distinct_columns(self) -> Self:
        names = [feature.name for feature in self.features]
        if not names:
            raise ValueError("a schema has at least one feature")
        if len(set(names)) != len(names):
            raise ValueError("every feature may be named once only")
        if self.label.column in names:
            raise ValueError(
                f"the label {self.label.column!r} is also a feature: the model would predict it from itself"
            )
        _check_texts((self.label.column, *names), "column")
        if self.dimension > DIMENSION_LIMIT:
            raise ValueError(f"the features make {self.dimension} coordinates; at most {DIMENSION_LIMIT} are supported")
        return self

    @property
    def dimension(self) -> int:
        """Number of coordinates d of a row: one per numeric feature, one per category, one for the bias."""
        return sum(feature.width for feature in self.features) + 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the d coordinates, such as ``age`` and ``smoker=yes``; the bias comes last."""
        names: list[str] = []
        for feature in self.features:
            if isinstance(feature, CategoricalFeature):
                names.extend(f"{feature.name}={category}" for category in feature.categories)
            else:
                names.append(feature.name)
        return (*names, "(bias)")


def load_schema(path: Path) -> Schema:
    """Read the ``[schema]`` table of a TOML file.

    Raises:
        DataError: the file cannot be read, has no ``[schema]``, or it is malformed (every fault is named).
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"schema {path}: {error}; give a readable TOML file") from error
    if "schema" not in content:
        raise DataError(f"schema {path}: there is no [schema] table; describe the columns of the data in one")
    try:
        return Schema.model_validate(content["schema"])
    except ValidationError as error:
        faults = "; ".join(
            f"schema.{'.'.join(map(str, fault['loc']))}: {fault['msg']}".removesuffix(": ") for fault in error.errors()
        )
        raise DataError(f"schema {path}: {faults}") from error
