"""Files to columns of text: CSV line by line, Parquet batch by batch. No record's text reaches another record.

**CSV.** The first line names the columns. Every further line is one record, an empty one too, whatever it holds: lines
end with a line feed (a carriage return before it is ignored), also inside quotation marks. So the record count is the
number of lines, which no record's text changes, and a stray quotation mark ends with its line. Cells are separated by
commas. A cell that begins with a quotation mark runs to the next single one, two standing for one; what follows up to
the comma is part of the cell, and a mark elsewhere is an ordinary character. A record that has more or fewer cells than
the first line is *malformed*: it is counted, and its cells are unknown. What is not UTF-8 is replaced character by
character.

**Parquet.** Numbers and booleans become their text, or stay numbers where the caller asks for numbers and double
precision holds what their text says. Which types a column may have is decided by the file's header. A folder of Parquet
files is read file by file in the order of their names, and each file row group by row group.

Error texts never quote a file, not even its first line: in a file without a header that is a record.
"""

import gzip
import io
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Cells", "TextBatch", "parquet_files", "parquet_record_counts", "read_batches"]

Cells = Sequence[str] | NDArray[np.float64]
"""A column's cells: texts, or numbers where the file has them in double precision, NaN for a missing one."""

_BATCH_SIZE = 2000  # records whose cells are in memory as text at a time
_CELL = re.compile(r',(?:"([^"]*(?:""[^"]*)*)"?)?([^,]*)')
_TEXT_TYPES = ("string", "large_string", "string_view")
_BYTES_TYPES = ("binary", "large_binary", "binary_view")
_VALUE_TYPES = ("integer", "floating", "decimal", "boolean", "null")


@dataclass(frozen=True, repr=False)
class TextBatch:
    """Some consecutive records of a file.

    Args:
        columns: the cells of each name asked for, all of the same length.
        malformed: positions in this batch of records that have the wrong number of cells; theirs are empty here.
    """

    columns: Sequence[Cells]
    malformed: Sequence[int]


def read_batches(
    path: Path, names: Sequence[str], *, numbers: Collection[str] = (), row_group: int | None = None
) -> Iterator[TextBatch]:
    """Read the named columns of a file; the others are not looked at.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file, or a folder of ``.parquet`` files.
        names: columns, at least one.
        numbers: those of them that may be given as numbers instead of their text.
        row_group: of a Parquet file, the one to be read; all when absent.

    Returns:
        The records in the file's order.

    Raises:
        DataError: there is no such file, it cannot be read, it lacks a column or has one twice, or a Parquet column has
            a type that is neither text nor a number. Nothing that a record's cells hold raises.
    """
    if path.is_dir():
        return (batch for file in parquet_files(path) for batch in _read_parquet(file, names, numbers))
    if not path.is_file():
        raise DataError(f"table {path}: there is no such file")
    if path.name.endswith((".csv", ".csv.gz")):
        return _read_csv(path, names)
    if path.name.endswith(".parquet"):
        return _read_parquet(path, names, numbers, row_group)
    raise DataError(f"table {path}: the name has to end in .csv, .csv.gz or .parquet")


def parquet_files(folder: Path) -> tuple[Path, ...]:
    """List the files of a table that is a folder, in the order of their names, which is that of the records.

    Raises:
        DataError: there is none, or the folder cannot be listed.
    """
    try:
        files = tuple(sorted(path for path in folder.iterdir() if path.name.endswith(".parquet") and path.is_file()))
    except OSError as error:
        raise DataError(f"table {folder}: it cannot be listed ({error.strerror}); give a readable folder") from None
    if not files:
        raise DataError(f"table {folder}: there is no .parquet file in this folder; put the table's files there")
    return files


def parquet_record_counts(path: Path) -> tuple[int, ...]:
    """Return the number of records of each row group of a Parquet file, from its footer.

    Raises:
        DataError: it cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        footer = parquet.read_metadata(path)
        return tuple(int(footer.row_group(number).num_rows) for number in range(footer.num_row_groups))
    except (OSError, pa.ArrowException, UnicodeDecodeError):  # the last one of a column's name
        raise DataError(f"table {path}: it cannot be read; give a readable Parquet file") from None


def _positions(path: Path, header: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find each named column in the header."""
    for name in names:
        if header.count(name) == 0:
            raise DataError(f"table {path}: there is no column {name!r}; the first line names every column of [schema]")
        if header.count(name) > 1:
            raise DataError(f"table {path}: column {name!r} occurs {header.count(name)} times; remove or rename one")
    return [header.index(name) for name in names]


def _cells(line: str) -> list[str]:
    """Cut one line into its cells; every line has some reading."""
    line = line.rstrip("\r\n")
    if '"' not in line:
        return line.split(",")
    return [quoted.replace('""', '"') + rest for quoted, rest in _CELL.findall("," + line)]


def _read_csv(path: Path, names: Sequence[str]) -> Iterator[TextBatch]:
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as file:
            # newline="\n": no other character ends a line.
            lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="\n")
            header = [name.strip() for name in _cells(next(lines, ""))]
            positions = _positions(path, header, names)
            while records := [_cells(line) for line in islice(lines, _BATCH_SIZE)]:
                malformed = [number for number, record in enumerate(records) if len(record) != len(header)]
                for number in malformed:
                    records[number] = [""] * len(header)
                columns = list(zip(*records, strict=True))
                yield TextBatch([columns[position] for position in positions], malformed)
    except (OSError, EOFError, zlib.error) as error:
        # Only the system's own text may be shown.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise DataError(f"table {path}: it cannot be read ({reason}); give a readable CSV file") from None


def _read_parquet(
    path: Path, names: Sequence[str], numbers: Collection[str], row_group: int | None = None
) -> Iterator[TextBatch]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            layout = file.schema_arrow
            _positions(path, layout.names, names)
            for name in names:
                _check_parquet_type(path, name, layout.field(name).type)
            groups = None if row_group is None else [row_group]
            for batch in file.iter_batches(_BATCH_SIZE, row_groups=groups, columns=list(names)):
                yield TextBatch([_parquet_cells(batch.column(name), as_number=name in numbers) for name in names], [])
    except (OSError, pa.ArrowException, UnicodeDecodeError):  # the last one of a column's name
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


def _parquet_cells(column: "pa.Array", *, as_number: bool) -> Cells:
    """Return doubles and integers as numbers if asked to: what parsing their text gives. All else becomes text."""
    from pyarrow import types

    if as_number and (types.is_float64(column.type) or types.is_integer(column.type)):
        return np.asarray(column.cast("float64", safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    return _texts(column)


def _texts(column: "pa.Array") -> list[str]:
    """Turn cells into text: a null cell into an empty one, bytes that are not UTF-8 into replacement characters."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_any(column.type, _VALUE_TYPES):
        column = column.cast(pa.string())
    return [(cell or b"").decode("utf-8", errors="replace") for cell in column.cast(pa.large_binary()).to_pylist()]
