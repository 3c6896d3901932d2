"""Gates on shared bits: prefix ANDs of random bits, and local selection from public tables.

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

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import Backend, Words

__all__ = ["accumulate", "first_differences", "invert"]

_STEP = 2
"""Random bits that a chain grows by in a round: one bit is opened for both, and four are dealt."""

_CACHED_BYTES = 1 << 20
"""Up to here all rows are added at once: a copy of them stays in the cache."""


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


def accumulate(chosen: Words, tosses: Sequence[Words], rows: NDArray[np.bool_]) -> None:
    """XOR into each row of ``chosen`` those of some tosses that its public row names. Local.

    Args:
        chosen: shape (n, *s).
        tosses: t arrays of shape s. All 2^t of their sums are made, and one is added to each row: t = 4 is best.
        rows: shape (n, t).

    Source:
        Arlazarov, Dinic, Kronrod, Faradzhev: the method of the four Russians (1970).
    """
    sums = np.zeros((1 << len(tosses), *tosses[0].shape), dtype=np.int64)
    for bit, toss in enumerate(tosses):
        np.bitwise_xor(sums[: 1 << bit], toss, out=sums[1 << bit : 2 << bit])
    indices = rows @ (1 << np.arange(len(tosses)))
    if chosen.nbytes <= _CACHED_BYTES:
        chosen ^= sums[indices]
        return
    for row, index in zip(chosen, indices.tolist(), strict=True):
        row ^= sums[index]  # one at a time: no copy of all of them that the cache could not hold
