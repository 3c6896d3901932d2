"""An owner's records as methods read them: in blocks of rows, whether they are in memory or larger than it.

**Blocks.** A sum of floating-point numbers depends on the order of its additions. So methods add up block by block, and
a block is defined by the public indices of its rows alone: block b of size B holds the rows b B, ..., b B + B - 1 of
the table. How a file is cut into row groups, and a folder into files, decides nothing: the contribution is the same to
the last bit, and so is the ring vector.

A folder of Parquet files is read anew for every pass, one row group at a time. Sums (gradient perturbation, statistics)
need one pass per round; output perturbation trains on all rows at once and takes them into memory. What a sum needs of
a block may be computed anywhere, by Ray's workers for example (`mpcdp.data.ray_records`); it is added up here, in
order.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import BlockFunction, Dataset, map_in_order
from mpcdp.data.schema import Schema
from mpcdp.data.table import dataset_of, iterate_values, read_dataset
from mpcdp.data.text_columns import parquet_files, parquet_record_counts
from mpcdp.errors import DataError

__all__ = ["Blocks", "ParquetRecords", "Records", "cut_into_blocks", "open_records"]


class Blocks(Protocol):
    """Rows that come in blocks."""

    @property
    def dimension(self) -> int:
        """Number of coordinates d of a row, the bias included."""
        ...

    def map_blocks(self, function: BlockFunction, size: int) -> Iterator[NDArray[np.float64]]:
        """Compute a function of every block of ``size`` rows, and yield its values in order.

        The last block may be shorter, and none is empty.
        """
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
        self._row_groups = {file: parquet_record_counts(file) for file in parquet_files(folder)}
        self.record_count = sum(map(sum, self._row_groups.values()))
        if self.record_count == 0:
            raise DataError(f"table {folder}: its files hold no records; at least one is needed")
        for file in self._row_groups:
            next(iterate_values(file, schema), None)  # every file's header is looked at before a session

    def __repr__(self) -> str:
        return f"ParquetRecords(<redacted>, record_count={self.record_count}, dimension={self.dimension})"

    @property
    def dimension(self) -> int:
        return self._schema.dimension

    @property
    def class_count(self) -> int:
        return self._schema.label.class_count

    def map_blocks(self, function: BlockFunction, size: int) -> Iterator[NDArray[np.float64]]:
        return map_in_order(function, self.blocks(size), size)

    def blocks(self, size: int) -> Iterator[Dataset]:
        """Yield the rows in order, in parts of ``size``; the last one may be shorter, and none is empty."""
        left = self.record_count
        pieces = (dataset_of(values, self._schema) for values in iterate_values(self._folder, self._schema))
        for block in cut_into_blocks(pieces, size):
            left -= block.record_count
            if left < 0:
                break
            yield block
        if left:
            raise DataError(f"table {self._folder}: its files changed while they were read; leave them alone")

    def in_memory(self) -> Dataset:
        return read_dataset(self._folder, self._schema)


def cut_into_blocks(pieces: Iterable[Dataset], size: int) -> Iterator[Dataset]:
    """Cut rows that come in pieces of any length into blocks of ``size``; the last one may be shorter."""
    waiting: list[Dataset] = []
    count = 0
    for piece in pieces:
        start = 0
        while start < piece.record_count:
            taken = min(size - count, piece.record_count - start)
            waiting.append(piece.part(start, start + taken))
            start, count = start + taken, count + taken
            if count == size:
                yield Dataset.joined(waiting)
                waiting, count = [], 0
    if waiting:
        yield Dataset.joined(waiting)


def open_records(path: Path, schema: Schema) -> Records:
    """Open a table with labels, for training: a folder of Parquet files stays on disk, a file is read.

    Args:
        path: a ``.csv``, ``.csv.gz`` or ``.parquet`` file, or a folder of ``.parquet`` files.
        schema: the task's public schema.

    Raises:
        DataError: it cannot be read as a table, lacks a column, has one twice, or has no records.
    """
    return ParquetRecords(path, schema) if path.is_dir() else read_dataset(path, schema)
