"""Gates on shared bits: prefix ANDs, coins of public bias, selection from public tables, signed integers.

Everything is bit-sliced (one int64 word carries the same bit of 64 independent lanes; the last axis of every array
counts words) and written against `Backend` alone. XOR, and AND with public bits, are local; only `and_words` and
`bits_to_arithmetic` communicate. Costs are given as ANDs per lane and rounds.

**The first difference.** Compare a uniform lambda-bit integer u with a public p, most significant bit first. "u and p
agree in bit i" is a fair coin *whatever p is*: so draw r_i, a free shared random bit, to say so; u itself is never
formed. With P_i = r_0 & ... & r_i, the bit f_i = P_{i-1} ^ P_i says "they differ in bit i for the first time". It has
probability 2^-(i+1), at most one f_i is set, and if f_i is, then u < p exactly if p_i = 1. Hence

    [u < p]  =  XOR of f_i over all i with p_i = 1,

which has probability p / 2^lambda exactly and, p being public, costs nothing beyond the f_i. One set of f_i serves any
number of public p, provided that only one of those coins is used in the end: they depend on each other.
"""

from collections.abc import Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import Backend, Words
from mpcdp.secret_sharing.shares import RingVector

__all__ = [
    "brent_kung_prefix",
    "coins",
    "first_difference",
    "fold",
    "invert",
    "ripple_prefix",
    "select",
    "signed_integers",
]


def invert(backend: Backend, words: Words) -> Words:
    """Flip shared bits. Local."""
    return words ^ backend.public(np.full_like(words, -1))


def ripple_prefix(backend: Backend, words: Words) -> Words:
    """AND together words[0 .. i] for every i, one after the other.

    Args:
        words: shape (n, ...).

    Returns:
        Same shape. n - 1 ANDs, n - 1 rounds.
    """
    prefix = words.copy()
    for i in range(1, len(words)):
        prefix[i] = backend.and_words(prefix[i - 1], words[i])
    return prefix


def brent_kung_prefix(backend: Backend, words: Words) -> Words:
    """AND together words[0 .. i] for every i, in few rounds.

    Args:
        words: shape (n, ...), n a power of two.

    Returns:
        Same shape. 2 n - 2 - log2 n ANDs and 2 log2 n - 1 rounds: 120 and 11 for n = 64.

    Source:
        Brent, Kung: A Regular Layout for Parallel Adders (1982).
    """
    count = len(words)
    if count & (count - 1):
        raise ValueError(f"a Brent-Kung network has a power of two of inputs, not {count}")
    prefix = words.copy()
    stride = 1
    while stride < count:  # up: the last of every 2 * stride words becomes the AND of all of them
        ends, middles = prefix[2 * stride - 1 :: 2 * stride], prefix[stride - 1 :: 2 * stride]
        ends[...] = backend.and_words(ends, middles)
        stride *= 2
    stride //= 4
    while stride >= 1:  # down: the middle of every 2 * stride words but the first takes in all words before them
        middles = prefix[3 * stride - 1 :: 2 * stride]
        before = prefix[2 * stride - 1 :: 2 * stride][: len(middles)]
        middles[...] = backend.and_words(middles, before)
        stride //= 2
    return prefix


def first_difference(backend: Backend, prefix: Words) -> Words:
    """Compute f_0 = NOT P_0 and f_i = P_{i-1} ^ P_i from a prefix AND P, shape (n, ...). Local."""
    first = np.empty_like(prefix)
    first[0] = invert(backend, prefix[0])
    np.bitwise_xor(prefix[:-1], prefix[1:], out=first[1:])
    return first


def coins(backend: Backend, thresholds: Sequence[int], *, precision: int, words: int) -> Words:
    """Toss independent coins of public bias: coin j is 1 with probability thresholds[j] / 2^precision.

    The lambda = precision bits are cut into blocks. Within each, the first difference gives E = "u and p agree in the
    block" and L = "they differ, and u < p"; Horner's rule, last block first, puts them together: the answer from block
    b on is L_b ^ (E_b & answer from block b + 1 on).

    Args:
        thresholds: integers p_j, 0 <= p_j < 2^precision.
        precision: lambda.
        words: width W.

    Returns:
        Shape (coins, W). Each coin costs lambda - 1 ANDs; all of them together 14 rounds for lambda = 64.
    """
    length = next(n for n in range(isqrt(precision), 0, -1) if precision % n == 0)
    blocks = precision // length
    agree = backend.random_words((length, blocks, len(thresholds), words))
    prefix = ripple_prefix(backend, agree)
    public_bits = _binary(thresholds, precision).reshape(len(thresholds), blocks, length).transpose(2, 1, 0)
    chosen = np.where(public_bits, np.int64(-1), np.int64(0))[..., np.newaxis]
    less = np.bitwise_xor.reduce(first_difference(backend, prefix) & chosen, axis=0)
    equal = prefix[-1]
    answer: Words = less[-1]
    for block in reversed(range(blocks - 1)):
        answer = less[block] ^ backend.and_words(equal[block], answer)
    return answer


def select(first: Words, rows: NDArray[np.bool_]) -> Words:
    """XOR together the words of ``first`` that each public row names. Local.

    Args:
        first: shape (lambda, W).
        rows: shape (..., lambda).

    Returns:
        Shape (..., W).
    """
    chosen = np.empty((*rows.shape[:-1], first.shape[1]), dtype=np.int64)
    for index in np.ndindex(rows.shape[:-1]):
        np.bitwise_xor.reduce(first[rows[index]], axis=0, out=chosen[index])
    return chosen


def fold(backend: Backend, tables: Sequence[Words], selectors: Sequence[Words]) -> list[Words]:
    """Keep the lower half of each table in the lanes where its selector is 0, the upper half where it is 1.

    Args:
        tables: each of shape (2 h, q, levels, W); h and q may differ.
        selectors: each of shape (levels, W), one per table.

    Returns:
        Tables of shape (h, q, levels, W). Each costs h * q ANDs per level; all of them together one round.
    """
    halves = [np.split(table, 2) for table in tables]
    changes = [low ^ high for low, high in halves]
    wires = [np.broadcast_to(selector, change.shape) for selector, change in zip(selectors, changes, strict=True)]
    flipped = backend.and_words(_rows(changes), _rows(wires))
    ends = np.cumsum([change.shape[0] * change.shape[1] for change in changes])
    return [low ^ part.reshape(low.shape) for (low, _), part in zip(halves, np.split(flipped, ends[:-1]), strict=True)]


def signed_integers(backend: Backend, magnitude: Words, shifts: Sequence[int]) -> RingVector:
    """Give k_j = |y_j| - 1/2 a random sign and share the sum of 2^shift_j * y_j, minus 1/2, as an integer.

    With a sign bit s, y - 1/2 is k (s = 0) or -1 - k (s = 1). In two's complement the second is the first with every
    bit flipped, so the sign is an XOR and needs no gate.

    Args:
        magnitude: bits of k_j, least significant first, shape (bits, levels, W).
        shifts: one per level; the first is 0 and the others positive, which makes the sum lie on Z + 1/2.

    Returns:
        Shape (64 * W,). One round, (bits + 1) * levels conversions per lane.
    """
    bits, levels, words = magnitude.shape
    sign = backend.random_words((1, levels, words))
    complement = np.concatenate([magnitude ^ sign, sign])
    values = backend.bits_to_arithmetic(complement.reshape(-1, words))
    places = [1 << bit for bit in range(bits)] + [-(1 << bits)]
    weights = np.array([place << shift for place in places for shift in shifts], dtype=np.int64)
    total: RingVector = weights @ values
    if backend.rank == 0:
        total += (sum(1 << shift for shift in shifts) - 1) // 2
    return total


def _binary(integers: Sequence[int], precision: int) -> NDArray[np.bool_]:
    """Write integers in binary, most significant bit first, shape (integers, precision)."""
    return np.array([[(p >> (precision - 1 - i)) & 1 for i in range(precision)] for p in integers], dtype=np.bool_)


def _rows(arrays: Sequence[Words]) -> Words:
    """Stack arrays of shape (h, q, levels, W) to one of shape (sum of h * q, levels, W)."""
    return np.concatenate([array.reshape(-1, *array.shape[2:]) for array in arrays])
