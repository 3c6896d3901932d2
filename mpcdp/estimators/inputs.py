"""From what is given to `fit` to every owner's table, under a schema that is declared and never inferred."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.data.schema import CategoricalFeature, Schema
from mpcdp.data.table import dataset_of, values_of
from mpcdp.data.text_columns import Cells

__all__ = ["Bounds", "OwnerTable", "cells_of", "feature_sections", "owner_names", "stack_tables"]

Bounds = Sequence[Any] | Mapping[str, Any]
"""Public bounds of the features: one pair for all, a sequence with an entry per column, or entries by column name. An
entry is a pair of numbers, or the texts of a column's categories."""

_LABEL = "label"


@dataclass(frozen=True, eq=False, repr=False)
class OwnerTable:
    """One owner's rows, column by column. Its repr shows nothing.

    Args:
        columns: cells of every feature of the schema.
        labels: cells of the label.
    """

    columns: tuple[Cells, ...]
    labels: Cells

    def __repr__(self) -> str:
        return f"OwnerTable(<redacted>, record_count={self.record_count})"

    @property
    def record_count(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def dataset(self, schema: Schema) -> Dataset:
        """Make the rows that the owner's process would make of the written table."""
        return dataset_of(values_of(self.columns, self.labels, schema), schema)

    def write(self, path: Path, schema: Schema) -> None:
        """Write the table as a Parquet file for its user alone."""
        import pyarrow as pa
        from pyarrow import parquet

        names = [*(feature.name for feature in schema.features), schema.label.column]
        path.touch(mode=0o600)
        parquet.write_table(pa.table(dict(zip(names, (*self.columns, self.labels), strict=True))), path)


def stack_tables(X: Any, y: Any, owners: Any) -> tuple[Any, Any, list[str] | None]:
    """Put a list of tables, or tables by owner, one below the other; anything else is one table already.

    Returns:
        The table, its labels, and the owner of every row; None if nobody said.

    Raises:
        ValueError: tables and labels do not belong together.
    """
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # some sparse matrices are mappings
        names, tables = [str(name) for name in X], list(X.values())
        if not isinstance(y, Mapping) or [str(name) for name in y] != names:
            raise ValueError("X is given by owner: give y by owner too, with the same names in the same order")
        labels = list(y.values())
    elif isinstance(X, list | tuple) and X and all(getattr(table, "ndim", 0) == 2 for table in X):
        tables, labels = list(X), list(y if y is not None else ())
        names = [f"owner-{number}" for number in range(1, len(tables) + 1)]
    else:
        return X, y, None if owners is None else owner_names(owners)
    if owners is not None:
        raise ValueError("owners says whose row is whose in one table; with a table per owner, leave it out")
    if [len(table) for table in tables] != [len(part) for part in labels]:
        raise ValueError("every owner's table needs as many labels as it has rows")
    whose = [name for name, table in zip(names, tables, strict=True) for _ in range(len(table))]
    return _stacked(tables), np.concatenate([np.asarray(part) for part in labels]), owner_names(whose)


def _stacked(tables: Sequence[Any]) -> Any:
    if all(hasattr(table, "columns") for table in tables):
        import pandas as pd

        return pd.concat(tables, ignore_index=True)
    return np.concatenate([np.asarray(table) for table in tables])


def owner_names(owners: Any) -> list[str]:
    """Turn the owner of every row into a name that a task may have: a number n becomes ``owner-n``.

    Raises:
        ValueError: something is no name.
    """
    names = [f"owner-{each}" if re.fullmatch(r"[0-9]+", str(each)) else str(each) for each in np.asarray(owners)]
    for name in dict.fromkeys(names):
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
            raise ValueError(
                f"owners: {name!r} is no name for an owner: use lower-case letters, digits and hyphens, or numbers"
            )
        if name in ("coordinator", "dealer") or re.fullmatch(r"party-[0-9]+", name):
            raise ValueError(f"owners: {name!r} is the name of another process: call the owner something else")
    return names


def feature_sections(bounds: Bounds | None, names: Sequence[str]) -> list[dict[str, Any]]:
    """Write declared bounds as the entries of ``[[schema.features]]``.

    Args:
        bounds: as an estimator has them.
        names: of the columns.

    Raises:
        ValueError: there are none, or they do not fit the columns.
    """
    if bounds is None:
        raise ValueError(
            "bounds is required: public bounds of every feature, such as (-1, 1) for all of them or "
            '{"age": (0, 120), "smoker": ["no", "yes"]}; they are agreed on, never looked up in the records'
        )
    if isinstance(bounds, Mapping):
        entries = [bounds[name] for name in names]
    elif len(bounds) == 2 and all(_is_number(bound) for bound in bounds):
        entries = [bounds] * len(names)
    else:
        entries = list(bounds)
    if len(entries) != len(names):
        raise ValueError(f"bounds has {len(entries)} entries for {len(names)} features: declare every column once")
    return [_feature(name, entry) for name, entry in zip(names, entries, strict=True)]


def _feature(name: str, entry: Any) -> dict[str, Any]:
    values = list(entry)
    if len(values) == 2 and all(_is_number(value) for value in values):
        return {"name": name, "lower": float(values[0]), "upper": float(values[1])}
    if values and all(isinstance(value, str) for value in values):
        return {"name": name, "categories": values}
    raise ValueError(f"bounds: {name!r} needs a pair of numbers or the texts of its categories, not {entry!r:.60}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def cells_of(X: NDArray[Any], schema: Schema) -> tuple[Cells, ...]:
    """Cut an array into the cells of the schema's features, shape (n, number of features)."""
    return tuple(
        _texts(column) if isinstance(feature, CategoricalFeature) or column.dtype != np.float64 else column
        for feature, column in zip(schema.features, np.asarray(X).T, strict=True)
    )


def _texts(column: NDArray[Any]) -> list[str]:
    return [str(cell) for cell in column.tolist()]
