"""The two samplers: circuits put together as tables say.

Both share integers y - 1/2, 64 to a word of width. For the universal noise of scale 2^20, lambda = 64, a sample costs

=========================  =====  =====================  ===================  ======
sampler                    ANDs   bits sent to a peer    bits of corrections  rounds
=========================  =====  =====================  ===================  ======
Laplace                    1967   1432 (179 bytes)       3343                 13
Gaussian                   3126   2421 (303 bytes)       4990                 50
Gaussian, prefix 4 blocks  4834   4213 (527 bytes)       6530                 28
=========================  =====  =====================  ===================  ======

where a batch takes the rounds only once. Corrections go from the dealer to rank 0 and to nobody else.
"""

from collections.abc import Sequence
from itertools import groupby, islice, product

import numpy as np

from mpcdp.mpc.backend import Backend, Words
from mpcdp.mpc.noise.circuits import accumulate, coins, first_differences, fold
from mpcdp.mpc.noise.integers import signed_sum
from mpcdp.mpc.noise.tables import GeometricDigits, HalfGaussian, Ladder
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["sample_gaussian", "sample_laplace"]

_TOSSES = 4
"""Tosses that are selected from at a time."""


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
        blocks: of the prefix network; see `first_differences`.

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
    results = _select(backend, tables, words, blocks)
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


def _select(backend: Backend, tables: Sequence[HalfGaussian], words: int, blocks: int) -> list[Words]:
    """Toss the coins and select every draw's digits, for all rows: shape (rows, bits, tables, words) each."""
    draws, shape = tables[0].draws, (len(tables), words)
    runs: list[tuple[HalfGaussian, slice]] = []  # levels of equal tables are selected together
    for table, run in groupby(range(len(tables)), lambda level: tables[level]):
        levels = list(run)
        runs.append((table, slice(levels[0], levels[-1] + 1)))
    results = [np.zeros((*draw.digits.shape[:-1], *shape), dtype=np.int64) for draw in draws]
    first = first_differences(backend, tables[0].precision, (len(draws), *shape), blocks=blocks)
    for start in range(0, tables[0].precision, _TOSSES):
        tosses = list(islice(first, _TOSSES))
        for (j, result), (table, span) in product(enumerate(results), runs):
            digits = table.draws[j].digits[..., start : start + _TOSSES]
            accumulate(result[:, :, span], [toss[j, span] for toss in tosses], digits)
    return results
