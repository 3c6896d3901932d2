"""An owner's model updates, which other software computes, handed over as files in a folder of its own machine.

The software and the owner's process need not run at the same time, nor in one environment; whichever comes first or is
started again finds what the other left. A file is written once and never replaced: a round that is repeated uploads the
same bytes. The files are as private as the table from which the updates were computed.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import BlockFunction, Dataset
from mpcdp.errors import DataError, PeerTimeout
from mpcdp.private_files import write_private_file

__all__ = ["UpdateFolder"]

_PAUSE_SECONDS = 0.05


class UpdateFolder:
    """The updates of one owner, one file for each round; to the protocol they are one record.

    Args:
        folder: where they are; made when the first one is stored.
        dimension: d, coordinates of an update.
        patience_seconds: how long to wait for one that is not there yet.
        pause: waits for some seconds.
    """

    def __init__(
        self, folder: Path, *, dimension: int, patience_seconds: float, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._folder = folder
        self._patience_seconds = patience_seconds
        self._pause = pause
        self.dimension = dimension
        self.record_count = 1
        self.class_count = 0

    def __repr__(self) -> str:
        return f"UpdateFolder(<redacted>, dimension={self.dimension})"

    def stored(self, round_index: int) -> bool:
        """Tell whether the update of a round is there."""
        return self._file(round_index).exists()

    def store(self, round_index: int, update: NDArray[np.float64]) -> None:
        """Keep the update of a round, for this user alone; one that is there already stays as it is.

        Raises:
            DataError: it has another number of coordinates than the task says, or the disk fails.
        """
        if update.shape != (self.dimension,):
            raise DataError(
                f"update of round {round_index}: it has {update.size} coordinates, the task says {self.dimension}; "
                "correct [model] coordinates of the task"
            )
        try:
            if not self.stored(round_index):
                write_private_file(self._file(round_index), update.astype("<f8").tobytes())
        except OSError as error:
            raise DataError(f"updates {self._folder}: {error.strerror}; name a folder that can be written") from error

    def update(self, round_index: int) -> NDArray[np.float64]:
        """Return the update of a round as it was stored, shape (d,), once it is there.

        Raises:
            PeerTimeout: it did not come in time.
            DataError: the file cannot be read, or is not one of this task.
        """
        end = time.monotonic() + self._patience_seconds
        while not self.stored(round_index):
            if time.monotonic() > end:
                raise PeerTimeout(
                    "update",
                    f"none of round {round_index} came to {self._folder} within {self._patience_seconds:g} s: see the "
                    "log of the software that computes it; raise [deadlines] of the task",
                    final=True,
                )
            self._pause(_PAUSE_SECONDS)
        try:
            content = self._file(round_index).read_bytes()
        except OSError as error:
            raise DataError(f"updates {self._folder}: {error.strerror}; give a readable folder") from error
        if len(content) != 8 * self.dimension:
            raise DataError(
                f"updates {self._folder}: that of round {round_index} has {len(content)} bytes, not 8 for each of "
                f"{self.dimension} coordinates; every task needs a folder of its own"
            )
        return np.frombuffer(content, dtype="<f8").astype(np.float64)

    def map_blocks(self, function: BlockFunction, size: int) -> Iterator[NDArray[np.float64]]:
        raise DataError(f"updates {self._folder}: they are no table; use the method update-aggregation")

    def in_memory(self) -> Dataset:
        raise DataError(f"updates {self._folder}: they are no table; use the method update-aggregation")

    def _file(self, round_index: int) -> Path:
        return self._folder / f"round-{round_index:06}.f8"
