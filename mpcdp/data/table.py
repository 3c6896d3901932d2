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
=============================================  =========================================================================

Cells are compared and parsed as text without the spaces around it. Columns of a Parquet file that hold numbers or
booleans are turned into text first (``1``, ``0.5``, ``true``), so the type a file happens to have never matters.
Columns that the schema does not name are not read.

**What can fail, and when.** Reading happens before an owner joins a session, and only reading can fail. Two kinds of
fault are refused: those of the file (missing or doubled column, wrong header, no rows, not a table) and, in
`read_dataset`, a column *none* of whose cells fits its declaration, which is a wrong type or a wrong schema and would
train a model on zeros. The second kind looks at records, but at all of them at once, and is told to the owner alone,
before anything has left it; whether an owner takes part is outside the privacy guarantee, as its record count is. A
table that has been read can no longer fail: no cell's value raises, and none touches another record's row.

Error texts never quote a table, not even its first line: in a file without a header that is a record.
"""

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.data.schema import CategoricalFeature, Feature, Label, NumericFeature, Schema
from mpcdp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_dataset", "read_features"]

_BLOCK_LIMIT = 2**31 - 1  # pyarrow's limit on the bytes it parses at once
_TEXT_TYPES = ("string", "large_string", "string_view")
_BYTES_TYPES = ("binary", "large_binary", "binary_view")
_VALUE_TYPES = ("integer", "floating", "decimal", "boolean", "null")


def read_dataset(path: Path, schema: Schema) -> Dataset:
    """Read a table with labels, for training.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file whose columns have the schema's names.
        schema: the task's public schema.

    Returns:
        One row per record in the file's order, with the bias coordinate last; labels as the schema's kind has them.

    Raises:
        DataError: the file cannot be read as a table, lacks a column, has one twice, has no rows, or no cell of a
            column fits its declaration.

    Guarantees:
        Row i depends on record i and the schema alone; its norm is at most 1.
    """
    label = schema.label
    columns = _read_columns(path, (label.column, *(feature.name for feature in schema.features)))
    labels = _map_cells(columns[label.column], _label_meaning(label))
    values = [_feature_values(columns[feature.name], feature) for feature in schema.features]
    _check_some_cell_fits(path, label.column, labels, "a number" if label.kind == "number" else "one of the classes")
    for feature, column in zip(schema.features, values, strict=True):
        wanted = "a number" if isinstance(feature, NumericFeature) else "one of the categories"
        _check_some_cell_fits(path, feature.name, column, wanted)
    rows = _rows(values, schema)
    unlabelled = np.isnan(labels)
    rows[unlabelled] = 0.0
    labels[unlabelled] = 1.0 if label.kind == "binary" else 0.0  # any label would do: beside a row of zeros none counts
    return Dataset(rows, labels, label.class_count)


def read_features(path: Path, schema: Schema) -> NDArray[np.float64]:
    """Read a table without looking at labels, for prediction.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file that has the schema's feature columns.
        schema: the schema the model was trained under.

    Returns:
        The rows as `read_dataset` makes them, shape (n, d).

    Raises:
        DataError: the file cannot be read as a table, lacks a feature's column, has one twice, or has no rows.
    """
    columns = _read_columns(path, [feature.name for feature in schema.features])
    return _rows([_feature_values(columns[feature.name], feature) for feature in schema.features], schema)


def _check_some_cell_fits(path: Path, column: str, values: NDArray[np.float64], wanted: str) -> None:
    """Refuse a column that fits its declaration nowhere (values NaN)."""
    if np.isnan(values).all():
        raise DataError(
            f"table {path}: no cell of column {column!r} is {wanted}; compare the column with its entry in [schema]"
        )


def _feature_values(column: "pa.ChunkedArray", feature: Feature) -> NDArray[np.float64]:
    """Return a numeric feature's scaled values or a categorical one's category numbers; NaN where a cell does not fit.

    A category's number is its position in the schema.
    """
    if isinstance(feature, CategoricalFeature):
        numbers = {category: float(number) for number, category in enumerate(feature.categories)}
        return _map_cells(column, lambda text: numbers.get(text, math.nan))
    return _map_cells(column, lambda text: _scaled_number(text, feature.lower, feature.upper))


def _label_meaning(label: Label) -> Callable[[str], float]:
    """Return the rule from a label cell's text to its number; NaN where it does not fit."""
    if label.kind == "number":
        lower, upper = label.bounds
        return lambda text: _scaled_number(text, lower, upper)
    numbers = (-1.0, 1.0) if label.kind == "binary" else map(float, range(label.class_count))
    meanings = dict(zip(label.classes, numbers, strict=True))
    return lambda text: meanings.get(text, math.nan)


def _scaled_number(text: str, lower: float, upper: float) -> float:
    """Map a cell from [lower, upper] to [-1, 1], outliers clipped; NaN when it is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    if not math.isfinite(number):
        return math.nan
    clipped = min(max(number, lower), upper)
    return 2 * ((clipped - lower) / (upper - lower)) - 1


def _rows(values: Sequence[NDArray[np.float64]], schema: Schema) -> NDArray[np.float64]:
    """Assemble the clipped rows, shape (n, d), from each feature's values, shape (n,)."""
    rows = np.zeros((len(values[0]), schema.dimension))
    rows[:, -1] = 1.0
    start = 0
    for feature, column in zip(schema.features, values, strict=True):
        known = np.flatnonzero(~np.isnan(column))
        if isinstance(feature, CategoricalFeature):
            rows[known, start + column[known].astype(np.int64)] = 1.0
        else:
            rows[known, start] = column[known]
        start += feature.width
    return clip_rows(rows, radius=schema.row_radius)


def _map_cells(column: "pa.ChunkedArray", meaning: Callable[[str], float]) -> NDArray[np.float64]:
    """Apply a rule to every cell's text, evaluating it once per distinct text; a null cell is an empty text."""
    parts = [np.empty(0)]
    for chunk in column.chunks:
        encoded = chunk.dictionary_encode(null_encoding="encode")
        texts = ((cell or b"").decode("utf-8", errors="replace").strip() for cell in encoded.dictionary.to_pylist())
        meanings = np.array([meaning(text) for text in texts], dtype=np.float64)
        parts.append(meanings[encoded.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def _read_columns(path: Path, names: Sequence[str]) -> dict[str, "pa.ChunkedArray"]:
    """Read the named columns as raw text, one non-empty binary column each."""
    if not path.is_file():
        raise DataError(f"table {path}: there is no such file")
    if path.name.endswith((".csv", ".csv.gz")):
        columns = _read_csv(path, names)
    elif path.name.endswith(".parquet"):
        columns = _read_parquet(path, names)
    else:
        raise DataError(f"table {path}: the name has to end in .csv, .csv.gz or .parquet")
    if len(next(iter(columns.values()))) == 0:
        raise DataError(f"table {path}: there are no rows below the header; at least one record is needed")
    return columns


def _positions(path: Path, header: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """Find each named column in the header."""
    for name in names:
        if header.count(name) == 0:
            raise DataError(f"table {path}: there is no column {name!r}; the first line names every column of [schema]")
        if header.count(name) > 1:
            raise DataError(f"table {path}: column {name!r} occurs {header.count(name)} times; remove or rename one")
    return {name: header.index(name) for name in names}


def _read_csv(path: Path, names: Sequence[str]) -> dict[str, "pa.ChunkedArray"]:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        content = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
        lines = csv.reader(io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", errors="replace", newline=""))
        header = [name.strip() for name in next(lines, [])]
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        # Only the error's type and the system's own text may be shown: a parser's message quotes what it read.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise DataError(f"table {path}: it cannot be read ({reason}); give a readable CSV file") from None
    positions = _positions(path, header, names)
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(content),
            # The whole file is one block, since a cell longer than a block would be an error. The header is read as a
            # row and dropped, since names that occur twice could not be addressed otherwise.
            read_options=arrow_csv.ReadOptions(
                autogenerate_column_names=True, block_size=min(len(content) + 1, _BLOCK_LIMIT)
            ),
            # In a file of one column an empty line is a record with an empty cell.
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(header) > 1),
            # Every column is raw bytes: a type inferred from one cell would change how the others are read.
            convert_options=arrow_csv.ConvertOptions(
                column_types={f"f{number}": pa.binary() for number in range(len(header))},
                include_columns=[f"f{number}" for number in positions.values()],
            ),
        )
    except (pa.ArrowException, KeyError, ValueError):
        raise DataError(
            f"table {path}: it cannot be read as CSV; every line needs {len(header)} cells separated by commas, as the "
            "first line has, and a cell with a comma or a quotation mark stands in quotation marks"
        ) from None
    return {name: table.column(f"f{number}").slice(1) for name, number in positions.items()}


def _read_parquet(path: Path, names: Sequence[str]) -> dict[str, "pa.ChunkedArray"]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            layout = file.schema_arrow
            _positions(path, layout.names, names)
            for name in names:
                _check_parquet_type(path, name, layout.field(name).type)
            table = file.read(columns=list(names))
        return {name: _as_bytes(table.column(name)) for name in names}
    except (OSError, pa.ArrowException):
        raise DataError(f"table {path}: it cannot be read; give a readable Parquet file") from None


def _check_parquet_type(path: Path, name: str, kind: Any) -> None:
    """Refuse a column by its declared type, which no record's value changes."""
    from pyarrow import types

    value_kind = kind.value_type if types.is_dictionary(kind) else kind
    if not _is_any(value_kind, _TEXT_TYPES + _BYTES_TYPES + _VALUE_TYPES):
        raise DataError(f"table {path}: column {name!r} has the type {kind}; store it as text, numbers or booleans")


def _is_any(kind: Any, names: Sequence[str]) -> bool:
    """Tell whether a type of Arrow is one of those named."""
    from pyarrow import types

    return any(getattr(types, f"is_{name}")(kind) for name in names)


def _as_bytes(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Turn cells into their text's bytes; text that is not UTF-8 passes, to be replaced when it is decoded."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_any(column.type, _VALUE_TYPES):
        column = column.cast(pa.string())
    return column.cast(pa.large_binary())
