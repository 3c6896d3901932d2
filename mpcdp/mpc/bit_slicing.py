"""From bit-sliced words to one integer for each lane."""

import numpy as np

from mpcdp.mpc.backend import Words
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["LANES", "integers"]

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
