"""The two samplers: circuits put together as tables say.

Both share integers y - 1/2, 64 to a word of width. For the universal noise of scale 2^20, lambda = 64, a sample costs

================  =====  ============================  ===================  ======
sampler           ANDs   bits opened, to each peer     bits of corrections  rounds
================  =====  ============================  ===================  ======
Laplace           1967   1432 (179 bytes)              3343                 13
Gaussian          3126   2421 (303 bytes)              4990                 50
Gaussian, narrow  5618   5109 (639 bytes)              7090                 25
================  =====  ============================  ===================  ======

where a batch takes the rounds only once. Corrections go from the dealer to rank 0 and to nobody else.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from mpcdp.mpc.backend import Backend, Words
from mpcdp.mpc.noise.circuits import coins, first_difference, fold, random_prefix, select
from mpcdp.mpc.noise.integers import signed_sum
from mpcdp.mpc.noise.tables import GeometricDigits, HalfGaussian, Ladder
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["sample_gaussian", "sample_laplace"]


def sample_laplace(backend: Backend, digits: GeometricDigits, words: int) -> RingVector:
    """Share discrete Laplace samples: one coin for each digit of the magnitude, and a sign.

    Returns:
        Integers y - 1/2, shape (64 * words,).
    """
    magnitude = coins(backend, digits.thresholds, precision=digits.precision, words=words)
    return signed_sum(backend, magnitude[:, np.newaxis], (0,))


def sample_gaussian(
    backend: Backend, ladder: Ladder, tables: Sequence[HalfGaussian], words: int, *, blocks: int
) -> RingVector:
    """Share discrete Gaussian samples: one half-Gaussian for each level of the ladder, signs, shifts, a sum.

    Args:
        backend: where to compute.
        ladder: shifts of the levels.
        tables: one per level, all of one layout.
        words: width of the result; the levels are further lanes of one batch.
        blocks: of the prefix network; see `random_prefix`.

    Returns:
        Integers y - 1/2, shape (64 * words,).
    """
    magnitude = _half_gaussians(backend, tables, words, blocks)
    return signed_sum(backend, magnitude[::-1], [level.shift for level in ladder.levels])


def _half_gaussians(backend: Backend, tables: Sequence[HalfGaussian], words: int, blocks: int) -> Words:
    """Draw from every table: the first difference of fair coins selects from it, then slots and earlier bits do.

    Each draw makes the result for *every* slot and prefix at once (local, since tables are public). Slots are random
    bits; folding by them leaves one result per prefix. The first draw has no prefix, so its bits are known; folding
    the later draws by each known bit makes their bits known in turn.

    Returns:
        Bits of |y| - 1/2, most significant first, shape (bits, tables, words).
    """
    draws = tables[0].draws
    prefix = random_prefix(backend, tables[0].precision, (len(draws), len(tables), words), blocks=blocks)
    first = first_difference(backend, prefix)
    results = [_select(first[:, j], tables, j) for j in range(len(draws))]
    for j, draw in enumerate(draws):
        for _ in range(draw.slot_bits):
            (results[j],) = fold(backend, [results[j]], None)
    known: list[Words] = []
    while results:
        (drawn,), *results = results
        for bit in drawn:
            known.append(bit)
            if results:
                results = fold(backend, results, bit)
    return np.stack(known)


def _select(first: Words, tables: Sequence[HalfGaussian], draw: int) -> Words:
    """Select the digits of one draw of every table, shape (rows, bits, tables, words); equal tables in one go."""
    parts: list[Words] = []
    start = 0
    for table, run in groupby(tables):
        end = start + len(list(run))
        parts.append(select(first[:, start:end], table.draws[draw].digits))
        start = end
    return np.concatenate(parts, axis=2)
