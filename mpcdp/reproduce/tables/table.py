"""A public table that accuracy is measured on: its records as text, its schema, and both as numbers."""

import csv
import gzip
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcdp.data.dataset import Dataset
from mpcdp.data.schema import Schema
from mpcdp.data.table import read_dataset
from mpcdp.errors import DataError

__all__ = ["BenchmarkTable", "TextRows", "make_table", "part", "read_text_rows"]

TextRows = Sequence[Sequence[str]]


@dataclass(frozen=True, eq=False, kw_only=True)
class BenchmarkTable:
    """A public table, split into training and test records.

    Args:
        name: as the command line calls it.
        title: for people.
        source: where its records came from.
        schema: public description; for some tables taken from the table itself, which only public data allow.
        header: names of the columns.
        rows: the training records as text, in the order of ``training``.
        training: the same as numbers.
        test: what models are judged on.
    """

    name: str
    title: str
    source: str
    schema: Schema
    header: tuple[str, ...]
    rows: TextRows
    training: Dataset
    test: Dataset

    @property
    def regression(self) -> bool:
        """Whether a number is predicted, not a class."""
        return self.schema.label.kind == "number"

    def write(self, path: Path, start: int, stop: int) -> None:
        """Write some of the training records as a CSV table that fits the schema."""
        _write(path, self.header, self.rows[start:stop])


def make_table(
    *, name: str, title: str, source: str, schema: dict[str, Any], header: Sequence[str], rows: TextRows, training: int
) -> BenchmarkTable:
    """Read rows of text as an owner would, and split them.

    Args:
        name: as the command line calls it.
        title: for people.
        source: where the records came from.
        schema: as a task has it.
        header: names of the columns.
        rows: the records, shuffled.
        training: how many of them, from the start, are training records; the others are test records.

    Raises:
        DataError: there are not more records than that.
    """
    if len(rows) <= training:
        raise DataError(f"{title}: {len(rows)} records, more than {training} are needed; give the whole file")
    checked = Schema.model_validate(schema)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        _write(path, header, rows)
        dataset = read_dataset(path, checked)
    return BenchmarkTable(
        name=name,
        title=title,
        source=source,
        schema=checked,
        header=tuple(header),
        rows=rows[:training],
        training=part(dataset, 0, training),
        test=part(dataset, training, len(rows)),
    )


def part(dataset: Dataset, start: int, stop: int) -> Dataset:
    """Return some of the records."""
    return Dataset(dataset.features[start:stop].copy(), dataset.labels[start:stop].copy(), dataset.class_count)


def read_text_rows(path: Path) -> list[list[str]]:
    """Read a file's records as text, empty lines left out.

    Raises:
        DataError: there is no such file.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file; name the folder that holds it with --data")
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("latin-1")
    return [record for record in csv.reader(text.splitlines()) if record]


def _write(path: Path, header: Sequence[str], rows: TextRows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
