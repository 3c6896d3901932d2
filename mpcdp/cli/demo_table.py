"""The demo's data: scikit-learn's bundled breast-cancer table with public bounds, or the user's own table, split up."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpcdp.data.inspection import inspect_table
from mpcdp.data.schema import Schema, load_schema
from mpcdp.errors import DataError

__all__ = ["DemoTable", "bundled_table", "split", "user_table"]

_TEST_SHARE = 0.2
# The usual range of each measurement: mean of the cells, standard error, mean of the three worst cells. Values outside
# are clipped. This table is public, so its own ranges could be used; a real task takes them from the literature.
_RANGES = {
    "radius": ((9.5, 20.5), (0.15, 1.0), (10.5, 25.5)),
    "texture": ((13.0, 27.0), (0.5, 2.2), (16.5, 36.5)),
    "perimeter": ((60.0, 136.0), (1.1, 7.0), (68.0, 172.0)),
    "area": ((275.0, 1300.0), (11.0, 116.0), (330.0, 2000.0)),
    "smoothness": ((0.075, 0.12), (0.0035, 0.0125), (0.095, 0.17)),
    "compactness": ((0.04, 0.21), (0.008, 0.06), (0.07, 0.56)),
    "concavity": ((0.0, 0.25), (0.003, 0.08), (0.02, 0.68)),
    "concave points": ((0.0, 0.125), (0.004, 0.023), (0.025, 0.24)),
    "symmetry": ((0.14, 0.23), (0.012, 0.035), (0.21, 0.41)),
    "fractal dimension": ((0.054, 0.076), (0.0015, 0.008), (0.063, 0.12)),
}


@dataclass(frozen=True)
class DemoTable:
    """A table of texts and its public schema.

    Args:
        schema: as it will stand in the task.
        header: column names.
        rows: one tuple of cells per record.
    """

    schema: Schema
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def write(self, path: Path, rows: Sequence[int]) -> None:
        """Write some of the rows as CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.header)
            # A record is one line: line feeds within cells would split it.
            writer.writerows([cell.replace("\n", " ") for cell in self.rows[row]] for row in rows)


def bundled_table() -> DemoTable:
    """Return the breast-cancer table (569 records, 30 measurements, benign or malignant)."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    features: list[dict[str, Any]] = []
    for name in names:
        measurement = name.removeprefix("mean ").removeprefix("worst ").removesuffix(" error")
        mean, error, worst = _RANGES[measurement]
        lower, upper = error if name.endswith(" error") else worst if name.startswith("worst ") else mean
        features.append({"name": name, "lower": lower, "upper": upper})
    # The table calls its classes 0 (malignant) and 1 (benign).
    schema = Schema.model_validate(
        {"row_radius": 2.0, "label": {"column": "diagnosis", "classes": ["benign", "malignant"]}, "features": features}
    )
    rows = [
        (*(repr(float(value)) for value in row), ("malignant", "benign")[int(target)])
        for row, target in zip(data.data, data.target, strict=True)
    ]
    return DemoTable(schema=schema, header=(*names, "diagnosis"), rows=rows)


def user_table(table: Path, schema: Path) -> DemoTable:
    """Read a user's own CSV table and its schema.

    Raises:
        DataError: one of them cannot be read, or they do not fit each other.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [tuple(row) for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"table {table}: {error}; the demo takes a CSV file with a header line") from error
    if any(len(row) != len(header) for row in rows):
        raise DataError(f"table {table}: not all lines have as many cells as the header: mend the file")
    agreed = load_schema(schema)
    if unusable := inspect_table(table, agreed).unusable_columns:
        raise DataError(f"table {table}: no cell fits in {', '.join(map(repr, unusable))}: compare with {schema}")
    return DemoTable(schema=agreed, header=header, rows=rows)


def split(record_count: int, owners: int) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """Split row numbers unevenly among owners, and keep some back to test the models with.

    Args:
        record_count: rows in the table.
        owners: how many owners; the last one gets about ``owners`` times as many rows as the first.

    Returns:
        The owners' rows, and the test rows.

    Raises:
        DataError: there are too few rows for every owner to get two.
    """
    order = np.random.default_rng(0).permutation(record_count)
    test = int(record_count * _TEST_SHARE)
    weights = np.arange(1, owners + 1)
    ends = np.floor(np.cumsum(weights) / weights.sum() * (record_count - test)).astype(int)
    parts = tuple(tuple(part.tolist()) for part in np.split(order[test:], ends[:-1]))
    if min(len(part) for part in parts) < 2 or test < 1:
        raise DataError(f"{record_count} records are too few for {owners} owners: use fewer owners or a larger table")
    return parts, tuple(order[:test].tolist())
