"""Keystreams whose words a test chooses, to drive circuits through every case."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpcdp.secret_sharing.randomness import KeyStream, derive_key

__all__ = ["EveryAssignment", "FixedWords", "XorOfStreams", "fixed_stream"]


def fixed_stream(name: str) -> KeyStream:
    """Return the keystream of a name: the same in every run."""
    return KeyStream(derive_key(b"a fixed secret for tests", salt=b"", purpose=name))


class FixedWords(KeyStream):
    """Gives out the given words, in order, and nothing more."""

    def __init__(self, words: NDArray[np.int64]) -> None:
        self._left = words.reshape(-1)

    def words(self, count: int) -> NDArray[np.int64]:
        assert count <= self._left.size, "the circuit wants more random words than the test has"
        given, self._left = self._left[:count].copy(), self._left[count:]
        return given


class EveryAssignment(KeyStream):
    """Runs through all 2^bits values of a circuit's random bits, one in each lane.

    The j-th row of words that the circuit draws is bit j of the lane's number, so a circuit that draws ``bits`` rows
    meets every assignment exactly once. Bit-sliced arrays have the width as their last axis.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.width = max(1, 2**bits // 64)
        self.drawn = 0

    def words(self, count: int) -> NDArray[np.int64]:
        rows = count // self.width
        assert rows * self.width == count
        lanes = np.arange(64 * self.width, dtype=np.uint64)
        index = np.arange(self.drawn, self.drawn + rows, dtype=np.uint64)
        self.drawn += rows
        bits = ((lanes >> index[:, np.newaxis]) & np.uint64(1)).astype(np.uint8)
        return np.packbits(bits, axis=-1, bitorder="little").view("<i8").reshape(-1)


class XorOfStreams(KeyStream):
    """What several parties' random words amount to together."""

    def __init__(self, streams: Sequence[KeyStream]) -> None:
        self._streams = streams

    def words(self, count: int) -> NDArray[np.int64]:
        total = np.zeros(count, dtype=np.int64)
        for stream in self._streams:
            total ^= stream.words(count)
        return total
