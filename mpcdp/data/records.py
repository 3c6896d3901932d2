"""An owner's records as methods read them: in blocks of rows, whether they are in memory or larger than it.

**Blocks.** A sum of floating-point numbers depends on the order of its additions. So methods add up block by block, and
a block is defined by the public indices of its rows alone: block b of size B holds the rows b B, ..., b B + B - 1 of
the table. How a file is cut into row groups, and a folder into files, decides nothing: the contribution is the same to
the last bit, and so is the ring vector.

A folder of Parquet files is read anew for every pass, one row group at a time. Sums (gradient perturbation, statistics)
need one pass per round; output perturbation trains on all rows at once and takes them into memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from mpcdp.data.dataset import Dataset
from mpcdp.data.schema import Schema
from mpcdp.data.table import dataset_of, iterate_values, read_dataset
from mpcdp.data.text_columns import parquet_files, parquet_record_count
from mpcdp.errors import DataError

__all__ = ["Blocks", "ParquetRecords", "Records", "open_records"]


class Blocks(Protocol):
    """Rows that come in blocks."""

    @property
    def dimension(self) -> int:
        """Number of coordinates d of a row, the bias included."""
        ...

    def blocks(self, size: int) -> Iterator[Dataset]:
        """Yield the rows in order, in parts of ``size``; the last one may be shorter, and none is empty."""
        ...


class Records(Blocks, Protocol):
    """One owner's records; `Dataset` is those in memory."""

    @property
    def record_count(self) -> int:
        """Number of records n."""
        ...

    @property
    def class_count(self) -> int:
        """What labels may be; see `Dataset`."""
        ...

    def in_memory(self) -> Dataset:
        """Return all of them at once."""
        ...


class ParquetRecords:
    """The records of a folder of Parquet files; memory for one row group and one block, whatever the folder holds.

    Args:
        folder: files whose names end in ``.parquet``, with the schema's columns; in the order of their names.
        schema: the task's public schema.

    Raises:
        DataError: a file cannot be read, or there are no records. A column that is missing or has no usable type is
            found here, too, before anything is read.
    """

    def __init__(self, folder: Path, schema: Schema) -> None:
        self._folder = folder
        self._schema = schema
        self.record_count = sum(parquet_record_count(file) for file in parquet_files(folder))
        if self.record_count == 0:
            raise DataError(f"table {folder}: its files hold no records; at least one is needed")
        for file in parquet_files(folder):
            next(iterate_values(file, schema), None)  # every file's header is looked at before a session

    def __repr__(self) -> str:
        return f"ParquetRecords(<redacted>, record_count={self.record_count}, dimension={self.dimension})"

    @property
    def dimension(self) -> int:
        return self._schema.dimension

    @property
    def class_count(self) -> int:
        return self._schema.label.class_count

    def blocks(self, size: int) -> Iterator[Dataset]:
        left = self.record_count
        features, labels, filled = np.empty((0, 0)), np.empty(0), 0
        for values in iterate_values(self._folder, self._schema):
            part, start = dataset_of(values, self._schema), 0
            while start < part.record_count:
                if filled == 0:  # a block is handed over, so each has arrays of its own
                    features, labels = np.empty((min(size, left), self.dimension)), np.empty(min(size, left))
                taken = min(len(labels) - filled, part.record_count - start)
                features[filled : filled + taken] = part.features[start : start + taken]
                labels[filled : filled + taken] = part.labels[start : start + taken]
                filled, start, left = filled + taken, start + taken, left - taken
                if filled == len(labels):
                    yield Dataset(features, labels, self.class_count)
                    filled = 0
        if left or filled:
            raise DataError(f"table {self._folder}: its files changed while they were read; leave them alone")

    def in_memory(self) -> Dataset:
        return read_dataset(self._folder, self._schema)


def open_records(path: Path, schema: Schema) -> Records:
    """Open a table with labels, for training: a folder of Parquet files stays on disk, a file is read.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file, or a folder of ``.parquet`` files.
        schema: the task's public schema.

    Raises:
        DataError: it cannot be read as a table, lacks a column, has one twice, or has no records.
    """
    return ParquetRecords(path, schema) if path.is_dir() else read_dataset(path, schema)
