"""The samples of one batch on disk: blocks of 1024, each with a checksum that fits this batch and place alone."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mpcdp.errors import BudgetError
from mpcdp.mpc.noise_bank.state import BLOCK_SAMPLES, Batch
from mpcdp.private_files import make_private_file, sync_folder
from mpcdp.secret_sharing.shares import NoiseShare, RingVector

__all__ = ["BatchFile", "destroy_file"]

_BLOCK_BYTES = 8 * BLOCK_SAMPLES
_SEAL_BYTES = 16
_SEALED_BYTES = _BLOCK_BYTES + _SEAL_BYTES
_ZEROS = bytes(128 * _SEALED_BYTES)


class BatchFile:
    """The file of one batch: int64 little-endian samples, after every 1024 of them their checksum.

    The checksum is BLAKE2b under the batch's id, which no other batch ever has, and the block's position: a block of
    another batch or place, one that never reached the disk, or one that was overwritten does not pass for noise.

    Args:
        folder: where the file is or will be.
        batch: what it holds.
    """

    def __init__(self, folder: Path, batch: Batch) -> None:
        self.path = folder / f"{batch.start:020}.noise"
        self._batch = batch

    def write(self, chunks: Iterable[NoiseShare]) -> None:
        """Write the whole batch; it is on disk when this returns. Memory: one chunk.

        Args:
            chunks: the samples in order.

        Raises:
            ValueError: the chunks are fewer or more samples than the batch has.
            OSError: the disk failed.
        """
        position, rest = self._batch.start, b""
        make_private_file(self.path)
        with self.path.open("wb") as file:
            for chunk in chunks:
                data = rest + np.ascontiguousarray(chunk.values, dtype="<i8").tobytes()
                whole = len(data) - len(data) % _BLOCK_BYTES
                file.writelines(self._sealed(memoryview(data)[:whole], position))
                position, rest = position + whole // 8, data[whole:]
            file.flush()
            os.fsync(file.fileno())
        if rest or position != self._batch.end:
            raise ValueError(f"a batch of {self._batch.count} samples was given another number of them")

    def _sealed(self, data: memoryview, position: int) -> Iterator[bytes | memoryview]:
        for start in range(0, len(data), _BLOCK_BYTES):
            block = data[start : start + _BLOCK_BYTES]
            yield block
            yield self._seal(block, position + start // 8)

    def _seal(self, block: bytes | memoryview, position: int) -> bytes:
        return hashlib.blake2b(
            block, digest_size=_SEAL_BYTES, key=self._batch.name, salt=position.to_bytes(16, "little")
        ).digest()

    def read(self, start: int, end: int) -> RingVector:
        """Return the samples from one position to before another, shape (end - start,).

        Raises:
            BudgetError: a block of them is missing, has changed since it was written, or was overwritten.
        """
        first, data = self._read_blocks(start, end)
        position = first
        values = np.empty(end - start, dtype=np.int64)
        for offset in range(0, len(data), _SEALED_BYTES):
            block, seal = data[offset : offset + _BLOCK_BYTES], data[offset + _BLOCK_BYTES : offset + _SEALED_BYTES]
            if self._seal(block, position) != seal:
                raise BudgetError(
                    f"noise pool {self.path.parent}: the samples at position {position} are damaged or were used and "
                    "destroyed; run `mpcdp noise discard` at every compute party, and fill the pools again"
                )
            low, high = max(start, position), min(end, position + BLOCK_SAMPLES)
            samples = np.frombuffer(block, dtype="<i8")
            values[low - start : high - start] = samples[low - position : high - position]
            position += BLOCK_SAMPLES
        return values

    def _read_blocks(self, start: int, end: int) -> tuple[int, memoryview]:
        """Return the position of the first block of a range, and all its blocks; zeros for what the file lacks."""
        first, last = self._block(start), self._block(end + BLOCK_SAMPLES - 1)
        size = (last - first) * _SEALED_BYTES
        data = b""
        if self.path.exists():
            with self.path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, first * _SEALED_BYTES)
        return self._batch.start + first * BLOCK_SAMPLES, memoryview(data.ljust(size, b"\0"))

    def _block(self, position: int) -> int:
        return (position - self._batch.start) // BLOCK_SAMPLES

    def overwrite(self, start: int, end: int, *, sync: bool = False) -> None:
        """Overwrite the whole blocks between two positions with zeros.

        Args:
            start: rounded up to a whole block; at least the batch's start.
            end: rounded down to a whole block; at most the batch's end.
            sync: whether they are gone from the disk when this returns.
        """
        if self.path.exists():
            first, last = self._block(start + BLOCK_SAMPLES - 1), self._block(end)
            _overwrite(self.path, first * _SEALED_BYTES, last * _SEALED_BYTES, sync=sync)


def destroy_file(path: Path) -> None:
    """Overwrite and delete a file of samples."""
    _overwrite(path, 0, path.stat().st_size, sync=True)
    path.unlink()
    sync_folder(path.parent)


def _overwrite(path: Path, offset: int, end: int, *, sync: bool) -> None:
    with path.open("r+b", buffering=0) as file:
        end = min(end, os.fstat(file.fileno()).st_size)
        while offset < end:
            offset += os.pwrite(file.fileno(), _ZEROS[: end - offset], offset)
        if sync:
            os.fdatasync(file.fileno())
