"""The types a share travels in; none of them shows its content."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

__all__ = ["NoiseShare", "NoisedVector", "RingVector", "SharedVector", "Verdicts"]

RingVector = NDArray[np.int64]
"""A vector over Z_2^64, shape (d,), as two's-complement int64: numpy's wrap-around is the ring's arithmetic."""


class _Share:
    """One party's additive share of a vector over Z_2^64.

    Args:
        values: shape (d,), int64. The array is taken over and made read-only.

    Raises:
        ValueError: ``values`` is not a one-dimensional int64 array.
    """

    __slots__ = ("values",)

    def __init__(self, values: RingVector) -> None:
        if values.dtype != np.int64 or values.ndim != 1:
            raise ValueError(f"a share is a one-dimensional int64 array, not {values.dtype} of shape {values.shape}")
        values.flags.writeable = False
        self.values = values

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return int(self.values.shape[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(<redacted>, dimension={self.dimension})"

    def __reduce__(self) -> str:
        raise TypeError(f"{type(self).__name__} is secret and cannot be pickled")


class SharedVector(_Share):
    """A share of a contribution or of a sum of contributions. It cannot be revealed: noise has to be added first."""

    __slots__ = ()

    @classmethod
    def total(cls, shares: "Iterable[SharedVector]", *, dimension: int) -> "SharedVector":
        """Add shares of one party, giving its share of the sum. No communication."""
        values = np.zeros(dimension, dtype=np.int64)
        for share in shares:
            if share.dimension != dimension:
                raise ValueError(f"a share of dimension {share.dimension} does not fit a sum of dimension {dimension}")
            values += share.values
        return cls(values)


class NoiseShare(_Share):
    """A share of one noise vector. It is used once."""

    __slots__ = ()


class NoisedVector(_Share):
    """A share of a sum to which noise was added: the only thing that can be revealed."""

    __slots__ = ()

    @classmethod
    def add(cls, vector: SharedVector, noise: NoiseShare) -> "NoisedVector":
        """Add a noise share to a shared sum. No communication.

        Raises:
            ValueError: the dimensions differ.
        """
        if vector.dimension != noise.dimension:
            raise ValueError(f"noise of dimension {noise.dimension} does not fit a sum of dimension {vector.dimension}")
        return cls(vector.values + noise.values)


class Verdicts:
    """One party's XOR-share of the verdicts of a contribution check: whether each owner's vector is short enough.

    Args:
        bits: shape (words,), 64 verdicts to a word, the first in the lowest bit; fresh shares, as an AND gives them.
            What lies beyond the last verdict is set to 0.
        count: number of verdicts.

    Raises:
        ValueError: ``bits`` has another number of words than so many verdicts need.
    """

    __slots__ = ("bits", "count")

    def __init__(self, bits: RingVector, *, count: int) -> None:
        if count < 1 or bits.shape != (-(-count // 64),):
            raise ValueError(f"{count} verdicts do not fit words of shape {bits.shape}")
        self.bits = bits.astype(np.int64, copy=True)
        if count % 64:
            self.bits[-1] &= np.int64((1 << count % 64) - 1)
        self.bits.flags.writeable = False
        self.count = count

    def __repr__(self) -> str:
        return f"Verdicts(<redacted>, count={self.count})"

    def __reduce__(self) -> str:
        raise TypeError("Verdicts are secret and cannot be pickled")
