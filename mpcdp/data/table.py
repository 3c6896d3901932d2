"""Read an owner's table under the public schema: every cell becomes numbers by a rule that looks at that cell alone.

=============================================  =========================================================================
cell                                           becomes
=============================================  =========================================================================
a number, in a numeric column                  clipped to [lower, upper], mapped affinely to [-1, 1]
anything else there (empty, text, nan, inf)    0, the middle of the bounds
a category of a categorical column             1 in that category's coordinate, 0 in the others
anything else there                            0 in all of them
one of two classes, in the label column        -1 (the first class) or +1 (the second)
one of three or more classes there             the class's position 0, 1, ... in the schema
a number there, when the label is a number     clipped to [lower, upper], mapped affinely to [-1, 1]
anything else there                            the whole row becomes zeros: it is counted and contributes nothing
any, in a line with too many or too few cells  the same
=============================================  =========================================================================

Cells are compared and parsed as text without the spaces around it (`mpcdp.data.text_columns` says how files become
text), so the type a file happens to have never matters. Columns that the schema does not name are not read.

**What can fail, and when.** Reading happens before an owner joins a session, and only reading can fail, for reasons
that no single record decides: the file is missing or unreadable, its first line lacks a column or names one twice, a
Parquet column has a type that cannot be text, or there are no records. What records hold never raises, and none touches
another record's row. So a column that fits its declaration nowhere, which is a wrong schema and trains a model on
zeros, is not refused here: one cell would decide. `mpcdp.data.inspection` tells the owner, and nobody else.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.data.schema import CategoricalFeature, Feature, Label, Schema
from mpcdp.data.text_columns import Cells, read_batches
from mpcdp.errors import DataError

__all__ = [
    "TableValues",
    "dataset_of",
    "iterate_values",
    "read_dataset",
    "read_features",
    "read_values",
    "rows_of",
    "values_of",
]

_Rule = Callable[[Cells], NDArray[np.float64]]


@dataclass(frozen=True, eq=False, repr=False)
class TableValues:
    """What a table's cells mean, column by column, before rows are made of it.

    Args:
        features: per feature of the schema, shape (n,): scaled numbers, or the categories' positions in the schema.
        labels: shape (n,), as the schema's kind has them. In both, NaN stands for a cell that does not fit.
        malformed: shape (n,), true for a line with the wrong number of cells, none of which fits.
    """

    features: tuple[NDArray[np.float64], ...]
    labels: NDArray[np.float64]
    malformed: NDArray[np.bool_]


def read_dataset(path: Path, schema: Schema) -> Dataset:
    """Read a table with labels, for training.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file whose columns have the schema's names, or a folder of
            ``.parquet`` files.
        schema: the task's public schema.

    Returns:
        One row per record in the file's order, with the bias coordinate last; labels as the schema's kind has them.

    Raises:
        DataError: the file cannot be read as a table, lacks a column, has one twice, or has no records.

    Guarantees:
        Row i depends on record i and the schema alone; its norm is at most 1. No record's text raises.
    """
    return dataset_of(read_values(path, schema), schema)


def dataset_of(values: TableValues, schema: Schema) -> Dataset:
    """Make rows and labels of what cells mean; a record without a label becomes a row of zeros."""
    rows, labels = rows_of(values, schema), values.labels.copy()
    unlabelled = np.isnan(labels)
    rows[unlabelled] = 0.0
    # Any label would do: beside a row of zeros none counts.
    labels[unlabelled] = 1.0 if schema.label.kind == "binary" else 0.0
    return Dataset(rows, labels, schema.label.class_count)


def read_features(path: Path, schema: Schema) -> NDArray[np.float64]:
    """Read a table without looking at labels, for prediction.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file that has the schema's feature columns.
        schema: the schema the model was trained under.

    Returns:
        The rows as `read_dataset` makes them, shape (n, d); zeros for a line with the wrong number of cells.

    Raises:
        DataError: the file cannot be read as a table, lacks a feature's column, has one twice, or has no records.
    """
    return rows_of(read_values(path, schema, labelled=False), schema)


def read_values(path: Path, schema: Schema, *, labelled: bool = True) -> TableValues:
    """Read what every cell that the schema names means.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file.
        schema: the task's public schema.
        labelled: whether the file has labels; if not, all of them are NaN.

    Raises:
        DataError: as `read_dataset`.
    """
    parts = list(iterate_values(path, schema, labelled=labelled))
    if not any(len(part.malformed) for part in parts):
        raise DataError(f"table {path}: there are no rows below the header; at least one record is needed")
    columns = zip(*(part.features for part in parts), strict=True)
    return TableValues(
        tuple(np.concatenate(column) for column in columns),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.malformed for part in parts]),
    )


def iterate_values(
    path: Path, schema: Schema, *, labelled: bool = True, row_group: int | None = None
) -> Iterator[TableValues]:
    """Read the same piece by piece: some records at a time, in the file's order, so that memory stays bounded.

    Args:
        path: as for `read_values`.
        schema: as for `read_values`.
        labelled: as for `read_values`.
        row_group: of a Parquet file, the one to be read; all when absent.

    Raises:
        DataError: as `read_dataset`, but a table without records gives nothing.
    """
    names = [feature.name for feature in schema.features]
    numbers = {feature.name for feature in schema.features if not isinstance(feature, CategoricalFeature)}
    if labelled:
        names.append(schema.label.column)
        numbers |= {schema.label.column} if schema.label.kind == "number" else set()
    for batch in read_batches(path, names, numbers=numbers, row_group=row_group):
        malformed = np.zeros(len(batch.columns[0]), dtype=np.bool_)
        malformed[batch.malformed] = True
        columns = batch.columns[: len(schema.features)]
        yield values_of(columns, batch.columns[-1] if labelled else None, schema, malformed=malformed)


def values_of(
    columns: Sequence[Cells], labels: Cells | None, schema: Schema, *, malformed: NDArray[np.bool_] | None = None
) -> TableValues:
    """Say what cells mean that are in memory.

    Args:
        columns: the cells of every feature of the schema, in its order.
        labels: cells of the label; None if there are none, and then all are NaN.
        schema: the public schema.
        malformed: shape (n,), true for a record whose cells are unknown; none when left out.
    """
    faulty = np.zeros(len(columns[0]), dtype=np.bool_) if malformed is None else malformed
    features = tuple(
        np.where(faulty, math.nan, _rule(feature)(cells))
        for feature, cells in zip(schema.features, columns, strict=True)
    )
    if labels is None:
        return TableValues(features, np.full(len(faulty), math.nan), faulty)
    return TableValues(features, np.where(faulty, math.nan, _label_rule(schema.label)(labels)), faulty)


def _rule(feature: Feature) -> _Rule:
    """Return what turns a feature's cells into scaled numbers or category numbers; NaN where a cell does not fit."""
    if isinstance(feature, CategoricalFeature):
        return _lookup({category: float(number) for number, category in enumerate(feature.categories)})
    return lambda cells: _scaled(cells, feature.lower, feature.upper)


def _label_rule(label: Label) -> _Rule:
    """Return what turns a label's cells into its numbers; NaN where a cell does not fit."""
    if label.kind == "number":
        lower, upper = label.bounds
        return lambda cells: _scaled(cells, lower, upper)
    numbers = (-1.0, 1.0) if label.kind == "binary" else map(float, range(label.class_count))
    return _lookup(dict(zip(label.classes, numbers, strict=True)))


def _lookup(meanings: dict[str, float]) -> _Rule:
    return lambda cells: np.array([meanings.get(str(cell).strip(), math.nan) for cell in cells], dtype=np.float64)


def _scaled(cells: Cells, lower: float, upper: float) -> NDArray[np.float64]:
    """Map numbers from [lower, upper] to [-1, 1], outliers clipped; NaN where a cell is not a finite number."""
    numbers = cells if isinstance(cells, np.ndarray) else _numbers(cells)
    numbers = np.where(np.isfinite(numbers), numbers, math.nan)
    clipped = np.clip(numbers, lower, upper)
    return np.asarray(2 * ((clipped - lower) / (upper - lower)) - 1)


def _numbers(cells: Sequence[str]) -> NDArray[np.float64]:
    try:
        return np.array(list(map(float, cells)), dtype=np.float64)
    except ValueError:
        return np.array([_number(cell) for cell in cells], dtype=np.float64)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def rows_of(values: TableValues, schema: Schema) -> NDArray[np.float64]:
    """Assemble the clipped rows, shape (n, d); row i depends on record i alone, bit for bit."""
    rows = np.zeros((len(values.malformed), schema.dimension))
    rows[~values.malformed, -1] = 1.0
    start = 0
    for feature, column in zip(schema.features, values.features, strict=True):
        known = np.flatnonzero(~np.isnan(column))
        if isinstance(feature, CategoricalFeature):
            rows[known, start + column[known].astype(np.int64)] = 1.0
        else:
            rows[known, start] = column[known]
        start += feature.width
    return clip_rows(rows, radius=schema.row_radius)
