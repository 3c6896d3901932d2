"""Gates on shared bits: prefix ANDs of random bits, coins of public bias, selection from public tables.

Everything is bit-sliced (one int64 word carries the same bit of 64 independent lanes; the last axis of every array
counts words) and written against `Backend` alone. XOR, and AND with public bits, are local. Costs are given per lane as
ANDs and as bits opened (what a party sends to each peer), and in rounds.

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

__all__ = ["coins", "first_difference", "fold", "invert", "random_prefix", "select"]

_STEP = 2
"""Random bits that a chain grows by in a round: one bit is opened for both, and four are dealt."""

_TOSSES = 4
"""Tosses that `select` takes together: it makes their 15 sums once and adds one of them to each row."""


def invert(backend: Backend, words: Words) -> Words:
    """Flip shared bits. Local."""
    return words ^ backend.public(np.full_like(words, -1))


def random_prefix(backend: Backend, length: int, shape: tuple[int, ...], *, blocks: int) -> Words:
    """AND together r_0, ..., r_i for every i, with fresh random bits r.

    The bits are cut into blocks. Blocks grow all at once, two bits a round, the first two for nothing; then neighbours
    merge: all of a right one is ANDed with the last of its left one. One block opens least, many take fewest rounds.

    Args:
        length: number of bits n.
        shape: of each bit; its last axis counts words.
        blocks: a power of two that divides n.

    Returns:
        Shape (n, *shape). With one block n - 1 ANDs, n / 2 - 1 opened bits and as many rounds (63, 31, 31 for n = 64);
        with 8 blocks of 8 there are 152 ANDs, 127 opened bits and 6 rounds.
    """
    prefix = _blocks(backend, length // blocks, (blocks, *shape))
    while blocks > 1:
        left, right = prefix[:, 0::2], prefix[:, 1::2]
        prefix = np.concatenate([left, backend.and_rows(right, left[-1])])
        blocks //= 2
    return prefix[:, 0]


def _blocks(backend: Backend, length: int, shape: tuple[int, ...]) -> Words:
    """AND together r_0, ..., r_i for every i below the length, without blocks."""
    if length == 1:
        return backend.random_words((1, *shape))
    prefix = np.empty((length, *shape), dtype=np.int64)
    prefix[:_STEP] = backend.random_chain(_STEP, shape)
    for done in range(_STEP, length, _STEP):
        grown = prefix[done : done + _STEP]
        grown[...] = backend.extend_chain(prefix[done - 1], len(grown))
    return prefix


def first_difference(backend: Backend, prefix: Words) -> Words:
    """Turn prefix ANDs P into f_0 = NOT P_0 and f_i = P_{i-1} ^ P_i, shape (n, ...), in their place. Local."""
    for i in reversed(range(1, len(prefix))):
        prefix[i] ^= prefix[i - 1]
    prefix[0] = invert(backend, prefix[0])
    return prefix


def coins(backend: Backend, thresholds: Sequence[int], *, precision: int, words: int) -> Words:
    """Toss independent coins of public bias: coin j is 1 with probability thresholds[j] / 2^precision.

    The lambda = precision bits are cut into blocks. Within each, the first difference gives E = "u and p agree in the
    block" and L = "they differ, and u < p". Neighbours merge to L = L_left ^ (E_left & L_right), E = E_left & E_right.

    Args:
        thresholds: integers p_j, 0 <= p_j < 2^precision.
        precision: lambda.
        words: width W.

    Returns:
        Shape (coins, W). For lambda = 64 each coin costs 70 ANDs and opens 45 bits; all of them take 6 rounds.
    """
    length = next(n for n in range(isqrt(precision), 0, -1) if precision % n == 0)
    blocks = precision // length
    prefix = _blocks(backend, length, (blocks, len(thresholds), words))
    public_bits = _binary(thresholds, precision).reshape(len(thresholds), blocks, length).transpose(2, 1, 0)
    chosen = np.where(public_bits, np.int64(-1), np.int64(0))[..., np.newaxis]
    equal = prefix[-1].copy()
    first = first_difference(backend, prefix)
    first &= chosen
    answers = np.stack([np.bitwise_xor.reduce(first, axis=0), equal])  # L and E of every block
    while answers.shape[1] > 1:
        pairs = answers.shape[1] // 2
        left, right, unpaired = answers[:, 0 : 2 * pairs : 2], answers[:, 1 : 2 * pairs : 2], answers[:, 2 * pairs :]
        merged = backend.and_rows(right, left[1])
        merged[0] ^= left[0]
        answers = np.concatenate([merged, unpaired], axis=1)
    result: Words = answers[0, 0]
    return result


def select(first: Words, rows: NDArray[np.bool_]) -> Words:
    """XOR together the words of ``first`` that each public row names. Local.

    Args:
        first: shape (lambda, ...).
        rows: shape (..., lambda).

    Returns:
        Shape of the rows but for lambda, followed by that of a word of ``first``.

    Source:
        Arlazarov, Dinic, Kronrod, Faradzhev: the method of the four Russians (1970).
    """
    shape = first.shape[1:]
    chosen = np.zeros((rows[..., 0].size, *shape), dtype=np.int64)
    for start in range(0, len(first), _TOSSES):
        group = first[start : start + _TOSSES]
        sums = np.zeros((1 << len(group), *shape), dtype=np.int64)
        for bit, toss in enumerate(group):
            np.bitwise_xor(sums[: 1 << bit], toss, out=sums[1 << bit : 2 << bit])
        patterns = rows[..., start : start + _TOSSES].reshape(len(chosen), -1) @ (1 << np.arange(len(group)))
        for row, pattern in zip(chosen, patterns.tolist(), strict=True):
            if pattern:
                row ^= sums[pattern]
    return chosen.reshape(*rows.shape[:-1], *shape)


def fold(backend: Backend, tables: Sequence[Words], selector: Words | None) -> list[Words]:
    """Keep the lower half of each table in the lanes where the selector is 0, the upper half where it is 1.

    Args:
        tables: each of shape (2 h, q, levels, W); h and q may differ.
        selector: shape (levels, W); None for a fresh random one, which costs an opening less.

    Returns:
        Tables of shape (h, q, levels, W), in the place of the lower halves. Each costs h * q ANDs and opened bits per
        level, the selector one opened bit; all of them together one round.
    """
    halves = [np.split(table, 2) for table in tables]
    rows = sum(low.shape[0] * low.shape[1] for low, _ in halves)
    changes = np.empty((rows, *tables[0].shape[2:]), dtype=np.int64)
    start = 0
    ends = [start := start + low.shape[0] * low.shape[1] for low, _ in halves]
    for (low, high), change in zip(halves, np.split(changes, ends[:-1]), strict=True):
        np.bitwise_xor(low, high, out=change.reshape(low.shape))
    flipped = backend.and_random(changes) if selector is None else backend.and_rows(changes, selector)
    for (low, _), change in zip(halves, np.split(flipped, ends[:-1]), strict=True):
        low ^= change.reshape(low.shape)
    return [low for low, _ in halves]


def _binary(integers: Sequence[int], precision: int) -> NDArray[np.bool_]:
    """Write integers in binary, most significant bit first, shape (integers, precision)."""
    return np.array([[(p >> (precision - 1 - i)) & 1 for i in range(precision)] for p in integers], dtype=np.bool_)
