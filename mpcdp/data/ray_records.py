"""An owner's folder of Parquet files, gone over by Ray's workers; ``pip install "mpcdp[ray]"``.

Every worker reads the row groups that its rows lie in and computes what the sum needs of each of its blocks; this
process adds the blocks up in order. Block, function and order are those of `mpcdp.data.records`, so the ring vector is
the same to the last bit on machines of one kind: libraries of linear algebra choose the order of their own additions by
processor and by number of threads, and the latter is set at the workers to what it is here.

The cluster is the owner's own: rows, models and the key of a round's sample travel in it, by Ray's own means (pickles,
without TLS or passwords unless Ray is set up for them). It belongs where the table belongs, behind the same walls, and
nothing here starts one.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import BlockFunction, Dataset, map_in_order
from mpcdp.data.records import ParquetRecords, cut_into_blocks
from mpcdp.data.schema import Schema
from mpcdp.data.table import dataset_of, iterate_values
from mpcdp.errors import ConfigError, DataError

__all__ = ["RayRecords"]

_ROWS_AT_A_TIME = 2**16
"""What one worker goes over in one go, at least, if the table has as many: whole blocks, and about a row group."""


@dataclass(frozen=True)
class _RowGroup:
    """Where some of a table's rows are: ``first`` up to, not including, ``end``."""

    file: Path
    number: int
    first: int
    end: int


class RayRecords(ParquetRecords):
    """The records of a folder of Parquet files that all workers can read.

    Args:
        folder: as for `ParquetRecords`.
        schema: the task's public schema.
        address: of the owner's running cluster, ``"auto"`` or ``"host:port"``.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at that address.
        DataError: as for `ParquetRecords`.
    """

    def __init__(self, folder: Path, schema: Schema, *, address: str) -> None:
        super().__init__(folder, schema)
        self._groups = _in_order(self._row_groups)
        _connect(address)

    def map_blocks(self, function: BlockFunction, size: int) -> Iterator[NDArray[np.float64]]:
        """Compute a function of every block at the workers, and yield its values in order.

        Raises:
            DataError: a worker failed.
        """
        import ray.data
        from ray.exceptions import RayError

        rows = size * -(-max(_ROWS_AT_A_TIME, *(group.end - group.first for group in self._groups)) // size)
        parts = [{"first": first} for first in range(0, self.record_count, rows)]
        work = _PartOfTable(self._groups, self._schema, function, size, rows, _threads())
        try:
            results = ray.data.from_items(parts, override_num_blocks=len(parts)).map(work)
            waiting: dict[int, Mapping[str, Any]] = {}
            following = 0
            for result in results.iter_rows():
                waiting[result["first"]] = result
                while (done := waiting.pop(following, None)) is not None:
                    yield from np.frombuffer(done["values"], dtype=np.float64).reshape(done["blocks"], -1)
                    following += rows
        except RayError as error:
            raise DataError(
                f"table {self._folder}: a Ray worker failed ({type(error).__name__}); see Ray's logs; all its "
                "machines have to read the folder and have the same mpcdp"
            ) from None


@dataclass(frozen=True, repr=False)
class _PartOfTable:
    """What a worker is sent: from where some rows are to the values of their blocks."""

    groups: tuple[_RowGroup, ...]
    schema: Schema
    function: BlockFunction
    size: int
    rows: int
    threads: dict[str, int]

    def __call__(self, part: Mapping[str, Any]) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        first = int(part["first"])
        with threadpool_limits(limits=self.threads):
            values = list(map_in_order(self._shifted(first), cut_into_blocks(self._read(first), self.size), self.size))
        width = max(value.size for value in values)
        table = np.stack([np.broadcast_to(value, (width,)) for value in values])
        return {"first": first, "blocks": len(values), "values": table.tobytes()}

    def _shifted(self, first: int) -> BlockFunction:
        return lambda block, row: self.function(block, first + row)

    def _read(self, first: int) -> Iterator[Dataset]:
        """Yield the rows of this part, in order, in pieces of any length."""
        end = first + self.rows
        for group in self.groups:
            if group.first < end and first < group.end:
                row = group.first
                for values in iterate_values(group.file, self.schema, row_group=group.number):
                    piece = dataset_of(values, self.schema)
                    start, stop = max(first - row, 0), min(end - row, piece.record_count)
                    row += piece.record_count
                    if start < stop:
                        yield piece.part(start, stop)


def _in_order(counts: Mapping[Path, Sequence[int]]) -> tuple[_RowGroup, ...]:
    groups, row = [], 0
    for file, counts_of_file in counts.items():
        for number, count in enumerate(counts_of_file):
            groups.append(_RowGroup(file.absolute(), number, row, row + count))
            row += count
    return tuple(groups)


def _connect(address: str) -> None:
    """Use a cluster that this process is connected to already, or connect to one."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError('data.engine: "ray" needs Ray: pip install "mpcdp[ray]"') from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            raise ConfigError(
                f"data.address: no Ray cluster answers at {address} ({type(error).__name__}); start it: `ray start`"
            ) from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # it tells of every pass
    ray.data.DataContext.get_current().enable_progress_bars = False


def _threads() -> dict[str, int]:
    """Return how many threads the libraries of linear algebra use here, by their kind."""
    from threadpoolctl import threadpool_info

    return {str(library["user_api"]): int(library["num_threads"]) for library in threadpool_info()}
