"""The two samplers: circuits put together as tables say.

Both share integers y - 1/2, 64 to a word of width. Costs are given as ANDs per sample and rounds, at lambda = 64.
"""

from collections.abc import Sequence

import numpy as np

from mpcdp.mpc.backend import Backend, Words
from mpcdp.mpc.noise.circuits import (
    brent_kung_prefix,
    coins,
    first_difference,
    fold,
    select,
    signed_integers,
)
from mpcdp.mpc.noise.tables import GeometricDigits, HalfGaussian, Ladder
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["sample_gaussian", "sample_laplace"]


def sample_laplace(backend: Backend, digits: GeometricDigits, words: int) -> RingVector:
    """Share discrete Laplace samples: one coin for each digit of the magnitude, and a sign.

    Returns:
        Integers y - 1/2, shape (64 * words,). At t = 2^20: 26 * 63 = 1638 ANDs, 27 bit conversions, 15 rounds.
    """
    magnitude = coins(backend, digits.thresholds, precision=digits.precision, words=words)
    return signed_integers(backend, magnitude[:, np.newaxis], (0,))


def sample_gaussian(backend: Backend, ladder: Ladder, tables: Sequence[HalfGaussian], words: int) -> RingVector:
    """Share discrete Gaussian samples: one half-Gaussian for each level of the ladder, signs, shifts, a sum.

    Args:
        backend: where to compute.
        ladder: shifts of the levels.
        tables: one per level, all of one layout.
        words: width of the result; the levels are further lanes of one batch.

    Returns:
        Integers y - 1/2, shape (64 * words,). At sigma = 2^20: 7 levels of 649 ANDs and 8 bit conversions; 22 rounds.
    """
    magnitude = _half_gaussians(backend, tables, words)
    return signed_integers(backend, magnitude[::-1], [level.shift for level in ladder.levels])


def _half_gaussians(backend: Backend, tables: Sequence[HalfGaussian], words: int) -> Words:
    """Draw from every table: the first difference of fair coins selects from it, then slots and earlier bits do.

    Each draw makes the result for *every* slot and prefix at once (local, since tables are public). Slots are random
    bits; folding by them leaves one result per prefix. The first draw has no prefix, so its bits are known; folding
    the later draws by each known bit makes their bits known in turn.

    Returns:
        Bits of |y| - 1/2, most significant first, shape (bits, tables, words). 649 ANDs and 21 rounds.
    """
    draws = tables[0].draws
    agree = backend.random_words((tables[0].precision, len(draws), len(tables), words))
    first = first_difference(backend, brent_kung_prefix(backend, agree))
    results = [
        np.stack([select(first[:, j, level], table.draws[j].digits) for level, table in enumerate(tables)], axis=2)
        for j in range(len(draws))
    ]
    for folded in range(max(draw.slot_bits for draw in draws)):
        slotted = [j for j, draw in enumerate(draws) if draw.slot_bits > folded]
        slots = [backend.random_words((len(tables), words)) for _ in slotted]
        for j, result in zip(slotted, fold(backend, [results[j] for j in slotted], slots), strict=True):
            results[j] = result
    known: list[Words] = []
    while results:
        (drawn,), *results = results
        for bit in drawn:
            known.append(bit)
            if results:
                results = fold(backend, results, [bit] * len(results))
    return np.stack(known)
