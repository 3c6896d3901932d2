"""From shared bits to shared integers: signs, shifts and sums in binary, then one conversion for each sample.

A binary number x < 2^n is converted to the ring by adding, in binary, a dealt random integer r < 2^n that is known in
both sharings; the low n digits of x + r are uniform, so they are opened, and

    x  =  (x + r) mod 2^n  +  2^n carry  -  r,

where the carry is one more bit to convert. That takes 16 bytes of corrections per sample, however many bits x has; to
convert bit by bit takes 8 bytes for each.
"""

from collections.abc import Sequence

import numpy as np

from mpcdp.mpc.backend import Backend, Words
from mpcdp.mpc.noise.circuits import invert
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["signed_sum", "weighted_sum"]

Columns = list[list[Words]]
"""Addends in binary: column j lists shared bits of weight 2^j, each of shape (W,)."""


def signed_sum(backend: Backend, magnitude: Words, shifts: Sequence[int]) -> RingVector:
    """Give k_j = |y_j| - 1/2 a random sign and share the sum of 2^shift_j * y_j, minus 1/2, as an integer.

    With a sign bit s, y - 1/2 is k (s = 0) or -1 - k (s = 1). In two's complement the second is the first with every
    bit flipped, so the sign is an XOR and needs no gate. The leading bit s weighs -2^g; -2^g s is 2^g (NOT s) - 2^g.

    Args:
        magnitude: bits of k_j, least significant first, shape (g, levels, W).
        shifts: one per level; the first is 0 and the others positive, which makes the sum lie on Z + 1/2.

    Returns:
        Shape (64 * W,). The cost is that of `weighted_sum`.
    """
    bits = len(magnitude)
    sign = backend.random_words(magnitude.shape[1:])
    complement = np.concatenate([magnitude ^ sign, invert(backend, sign)[np.newaxis]])
    columns: Columns = [[] for _ in range(bits + 1 + max(shifts))]
    for level, shift in enumerate(shifts):
        for place, word in enumerate(complement[:, level]):
            columns[shift + place].append(word)
    total = weighted_sum(backend, columns)
    if backend.rank == 0:
        places = sum(1 << shift for shift in shifts)
        total += (places - 1) // 2 - (places << bits)
    return total


def weighted_sum(backend: Backend, columns: Columns) -> RingVector:
    """Share the sum of all bits, those of column j counted 2^j times, as integers.

    Args:
        backend: where to compute.
        columns: at least one bit.

    Returns:
        Shape (64 * W,). Besides some gates per column, 16 bytes of corrections per lane. The rounds grow with the
        logarithms of the number of columns and of their height.
    """
    bits = sum(len(column) << place for place, column in enumerate(columns)).bit_length()
    words = next(column for column in columns if column)[0].shape[0]
    digits, masks = backend.random_integers(bits, words)
    heap: Columns = [list(columns[place]) if place < len(columns) else [] for place in range(bits + 1)]
    for column, digit in zip(heap, digits, strict=False):
        column.append(digit)
    while (height := max(map(len, heap))) > 2:
        heap = _carry_save(backend, heap, height)
    return backend.unmask(_add(backend, heap, words), masks)


def _carry_save(backend: Backend, columns: Columns, height: int) -> Columns:
    """Add bits of equal weight, two or three to their sum and a carry, until columns have two thirds the height.

    A full adder has one AND; a half adder is one with a 0. All of them together take one round. The last column's
    carries are dropped; where the sum of all bits fits the columns, they are 0.

    Source:
        Dadda: Some Schemes for Parallel Multipliers (1965).
    """
    target = 2
    while target * 3 // 2 < height:
        target = target * 3 // 2
    zero = np.zeros_like(next(column for column in columns if column)[0])
    reduced: Columns = []
    adders: list[tuple[int, Sequence[Words]]] = []
    carried = 0  # carries that come into the column
    for place, column in enumerate(columns):
        left, made = list(column), 0
        while (excess := len(left) + carried + made - target) > 0:
            adders.append((place, [*left[:3]] if excess > 1 else [*left[:2], zero]))
            left, made = left[3 if excess > 1 else 2 :], made + 1
        reduced.append(left)
        carried = made
    a, b, c = (np.stack([bits[i] for _, bits in adders]) for i in range(3))
    a ^= c
    b ^= c
    carries = backend.and_rows(a[np.newaxis], b)[0]
    carries ^= c
    a ^= b
    a ^= c
    for (place, _), total, carry in zip(adders, a, carries, strict=True):
        reduced[place].append(total)
        if place + 1 < len(columns):
            reduced[place + 1].append(carry)
    return reduced


def _add(backend: Backend, columns: Columns, words: int) -> Words:
    """Add two binary numbers, of which a digit may be missing, modulo 2^columns. 1 + ceil(log2(columns - 1)) rounds.

    Carries come from a prefix network over (generate, propagate) pairs.

    Source:
        Sklansky: Conditional-Sum Addition Logic (1960).
    """
    missing = np.zeros(words, dtype=np.int64)
    left, right = (np.stack([(*column, missing, missing)[i] for column in columns]) for i in range(2))
    total: Words = np.bitwise_xor(left, right)
    generate = backend.and_rows(left[np.newaxis, :-1], right[:-1])[0]
    propagate = total[:-1].copy()
    places = np.arange(len(generate))
    stride = 1
    while stride < len(places):
        upper = places[places & stride != 0]
        lower = (upper | stride - 1) - stride  # the last place of the block below
        products = backend.and_rows(np.stack([generate[lower], propagate[lower]]), propagate[upper])
        generate[upper] ^= products[0]
        propagate[upper] = products[1]
        stride *= 2
    total[1:] ^= generate
    return total
