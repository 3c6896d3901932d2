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

from collections.abc import Iterator, Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import Backend, Words

__all__ = ["accumulate", "coins", "first_differences", "fold", "invert"]

_STEP = 2
"""Random bits that a chain grows by in a round: one bit is opened for both, and four are dealt."""


def invert(backend: Backend, words: Words) -> Words:
    """Flip shared bits. Local."""
    return words ^ backend.public(np.full_like(words, -1))


def first_differences(backend: Backend, length: int, shape: tuple[int, ...], *, blocks: int) -> Iterator[Words]:
    """Yield f_0 = NOT P_0 and f_i = P_{i-1} ^ P_i, where P_i = r_0 & ... & r_i for fresh random bits r.

    The bits are cut into blocks. Blocks grow all at once, two bits a round, the first two for nothing; then neighbours
    merge: all of a right one is ANDed with the last of its left one. One block opens least and is never in memory as a
    whole; many take fewest rounds.

    Args:
        length: number of bits n.
        shape: of each bit; its last axis counts words.
        blocks: a power of two that divides n.

    Yields:
        n arrays of the shape. With one block n - 1 ANDs, n / 2 - 1 opened bits and as many rounds (63, 31, 31 for n =
        64); with 4 blocks of 16 there are 124 ANDs, 95 opened bits and 9 rounds.
    """
    if blocks == 1:
        groups = _grow(backend, length, shape)
    else:
        prefix = np.concatenate(list(_grow(backend, length // blocks, (blocks, *shape))))
        while blocks > 1:
            left, right = prefix[:, 0::2], prefix[:, 1::2]
            prefix = np.concatenate([left, backend.and_rows(right, left[-1])])
            blocks //= 2
        groups = iter((prefix[:, 0],))
    last: Words | None = None
    for group in groups:
        for word in group:
            yield invert(backend, word) if last is None else last ^ word
            last = word


def _grow(backend: Backend, length: int, shape: tuple[int, ...]) -> Iterator[Words]:
    """Yield the prefix ANDs of fresh random bits, some at a time, without blocks."""
    if length == 1:
        yield backend.random_words((1, *shape))
        return
    group = backend.random_chain(_STEP, shape)
    yield group
    for done in range(_STEP, length, _STEP):
        group = backend.extend_chain(group[-1], min(_STEP, length - done))
        yield group


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
    public_bits = _binary(thresholds, precision).reshape(len(thresholds), blocks, length).transpose(2, 1, 0)
    chosen = np.where(public_bits, np.int64(-1), np.int64(0))[..., np.newaxis]
    answers = np.zeros((2, blocks, len(thresholds), words), dtype=np.int64)  # L and E of every block
    # The XOR of f_i over all i with p_i = 1 has P_i wherever p_i and p_{i+1} differ, and P_{-1} = 1 if p_0 = 1.
    changes = chosen ^ np.concatenate([chosen[1:], np.zeros_like(chosen[:1])])
    prefixes = (word for group in _grow(backend, length, answers.shape[1:]) for word in group)
    for change, prefix in zip(changes, prefixes, strict=True):
        answers[0] ^= prefix & change
        answers[1] = prefix
    answers[0] ^= backend.public(np.broadcast_to(chosen[0], answers.shape[1:]))
    while answers.shape[1] > 1:
        pairs = answers.shape[1] // 2
        left, right, unpaired = answers[:, 0 : 2 * pairs : 2], answers[:, 1 : 2 * pairs : 2], answers[:, 2 * pairs :]
        merged = backend.and_rows(right, left[1])
        merged[0] ^= left[0]
        answers = np.concatenate([merged, unpaired], axis=1)
    result: Words = answers[0, 0]
    return result


def accumulate(chosen: Words, tosses: Sequence[Words], rows: NDArray[np.bool_]) -> None:
    """XOR into each word of ``chosen`` those of some tosses that its public row names. Local.

    Args:
        chosen: shape (..., *s).
        tosses: t arrays of shape s. All 2^t of their sums are made, and one is added to each word: t = 4 is best.
        rows: shape (..., t).

    Source:
        Arlazarov, Dinic, Kronrod, Faradzhev: the method of the four Russians (1970).
    """
    sums = np.zeros((1 << len(tosses), *tosses[0].shape), dtype=np.int64)
    for bit, toss in enumerate(tosses):
        np.bitwise_xor(sums[: 1 << bit], toss, out=sums[1 << bit : 2 << bit])
    chosen ^= sums[rows @ (1 << np.arange(len(tosses)))]


def fold(backend: Backend, tables: Sequence[Words], selector: Words | None) -> list[Words]:
    """Keep the lower half of each table in the lanes where the selector is 0, the upper half where it is 1.

    Args:
        tables: each of shape (2 h, q, levels, W); h and q may differ.
        selector: shape (levels, W); None for a fresh random one, which costs an opening less.

    Returns:
        New tables of shape (h, q, levels, W). Each costs h * q ANDs and opened bits per level, the selector one opened
        bit; all of them together one round.
    """
    lows = [table[: len(table) // 2] for table in tables]
    changes = [low ^ table[len(low) :] for low, table in zip(lows, tables, strict=True)]
    rows = np.concatenate([change.reshape(-1, *change.shape[2:]) for change in changes])
    flipped = backend.and_random(rows) if selector is None else backend.and_rows(rows, selector)
    ends = np.cumsum([change.shape[0] * change.shape[1] for change in changes])
    folded = [part.reshape(low.shape) for part, low in zip(np.split(flipped, ends[:-1]), lows, strict=True)]
    for part, low in zip(folded, lows, strict=True):
        part ^= low
    return folded


def _binary(integers: Sequence[int], precision: int) -> NDArray[np.bool_]:
    """Write integers in binary, most significant bit first, shape (integers, precision)."""
    return np.array([[(p >> (precision - 1 - i)) & 1 for i in range(precision)] for p in integers], dtype=np.bool_)
