"""From bit-sliced words to one integer for each lane, and back."""

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import Words
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["LANES", "digits_of", "integers", "lanes", "words_of"]

LANES = 64
"""Lanes of a word."""


def integers(digits: Words) -> RingVector:
    """Read bit-sliced binary numbers.

    Args:
        digits: shape (n, w), least significant digit first, n <= 64.

    Returns:
        Shape (64 * w,): entry 64 * j + i is the sum over b of 2^b * (bit i, least significant first, of digits[b, j]).
    """
    octets = np.ascontiguousarray(digits, dtype="<i8").view(np.uint8)
    bits = np.unpackbits(octets, axis=-1, bitorder="little")
    packed = np.zeros((bits.shape[1], 8), dtype=np.uint8)
    for place in range(0, len(bits), 8):  # eight digits make a byte; Horner's rule, last digit first
        byte = np.zeros(bits.shape[1], dtype=np.uint8)
        for row in bits[place : place + 8][::-1]:
            byte += byte
            byte |= row
        packed[:, place // 8] = byte
    return packed.view("<i8").reshape(-1)


def digits_of(values: RingVector) -> Words:
    """Write integers in bit-sliced binary; undoes `integers`. A share of bits gives shares of the same bits.

    Args:
        values: shape (64 * w,), read as 64 digits each.

    Returns:
        Shape (64, w), least significant digit first.
    """
    octets = np.ascontiguousarray(values, dtype="<i8").view(np.uint8).reshape(-1, 8)
    lanes = np.unpackbits(octets, axis=-1, bitorder="little").T
    return np.packbits(np.ascontiguousarray(lanes), axis=-1, bitorder="little").view("<i8")


def lanes(words: Words) -> NDArray[np.bool_]:
    """Read words as one bit for each lane.

    Args:
        words: shape (..., w).

    Returns:
        Shape (..., 64 * w): entry 64 * j + i is bit i, least significant first, of word j.
    """
    octets = np.ascontiguousarray(words, dtype="<i8").view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little").view(np.bool_)


def words_of(bits: NDArray[np.bool_]) -> Words:
    """Pack one bit for each lane into words, shape (..., 64 * w) into (..., w); undoes `lanes`."""
    return np.packbits(bits, axis=-1, bitorder="little").view("<i8")
