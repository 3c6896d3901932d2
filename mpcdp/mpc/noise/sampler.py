"""The two samplers: circuits put together as tables say.

Both share integers y - 1/2, 64 to a word of width. For the universal noise of scale 2^20, lambda = 64, a sample costs

=========================  =====  =====================  ===================  ======
sampler                    ANDs   bits sent to a peer    bits of corrections  rounds
=========================  =====  =====================  ===================  ======
Laplace                    912    745 (93 bytes)         1472                 39
Laplace, prefix 4 blocks   1461   1321 (165 bytes)       1967                 17
Laplace, prefix 8 blocks   1713   1609 (201 bytes)       2147                 14
Gaussian                   2685   2204 (276 bytes)       3254                 44
Gaussian, prefix 4 blocks  3966   3548 (444 bytes)       4409                 22
=========================  =====  =====================  ===================  ======

where a row that q bits select counts 2^q - 1 ANDs, and a batch takes the rounds only once. Corrections go from the
dealer to rank 0 and to nobody else.
"""

from collections.abc import Sequence
from itertools import groupby, islice, product

import numpy as np

from mpcdp.mpc.backend import Backend, Words
from mpcdp.mpc.noise.circuits import accumulate, first_differences
from mpcdp.mpc.noise.integers import signed_sum
from mpcdp.mpc.noise.tables import GeometricDigits, HalfGaussian, Ladder, Table
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["sample_gaussian", "sample_laplace"]

_TOSSES = 4
"""Tosses that are selected from at a time."""


def sample_laplace(backend: Backend, tables: Sequence[GeometricDigits], words: int, *, blocks: int) -> RingVector:
    """Share discrete Laplace samples: some digits of the magnitude from each table, and a sign.

    Args:
        backend: where to compute.
        tables: the lowest digits first, all of one layout.
        words: width of the result; the tables are further lanes of one batch.
        blocks: of the prefix network; see `first_differences`.

    Returns:
        Integers y - 1/2, shape (64 * words,).
    """
    digits = _draw(backend, tables, words, blocks)[::-1]
    magnitude = digits.transpose(1, 0, 2).reshape(-1, 1, words)
    return signed_sum(backend, magnitude, (0,))


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
    magnitude = _draw(backend, tables, words, blocks)
    return signed_sum(backend, magnitude[::-1], [level.shift for level in ladder.levels])


def _draw(backend: Backend, tables: Sequence[Table], words: int, blocks: int) -> Words:
    """Draw from every table: the first difference of fair coins selects from it, then slots and earlier bits do.

    The first makes each draw's result for *every* slot and prefix at once (local, since tables are public), as
    polynomials in the bits of slot and prefix. Slots are random bits; selecting by them leaves polynomials in the
    prefix. The first draw has no prefix, so its bits are known; selecting the later draws by them makes the bits of
    the next draw known in turn.

    Returns:
        The bits, most significant first, shape (bits, tables, words).
    """
    results = _polynomials(backend, tables, words, blocks)
    for j, draw in enumerate(tables[0].draws):
        if draw.slot_bits:
            results[j] = backend.select_random(_by_first_bits(results[j], draw.slot_bits))
    known: list[Words] = []
    while results:
        drawn, *results = results
        known.extend(drawn)
        if results:
            sizes = [len(result) >> len(drawn) for result in results]
            selected = backend.select(
                np.concatenate([_by_first_bits(result, len(drawn)) for result in results], axis=1), drawn[::-1]
            )
            results = np.split(selected, np.cumsum(sizes)[:-1])
    return np.stack(known)


def _by_first_bits(polynomials: Words, bits: int) -> Words:
    """Cut the first index, of a monomial or a digit, into its first bits and what follows."""
    return polynomials.reshape(1 << bits, -1, *polynomials.shape[-2:])


def _polynomials(backend: Backend, tables: Sequence[Table], words: int, blocks: int) -> list[Words]:
    """Toss the coins and select every draw's polynomials: shape (monomials * bits, tables, words) each."""
    draws, shape = tables[0].draws, (len(tables), words)
    runs: list[tuple[Table, slice]] = []  # levels of equal tables are selected together
    for table, run in groupby(range(len(tables)), lambda level: tables[level]):
        levels = list(run)
        runs.append((table, slice(levels[0], levels[-1] + 1)))
    results = [np.zeros((draw.digits.shape[0] * draw.bits, *shape), dtype=np.int64) for draw in draws]
    first = first_differences(backend, tables[0].precision, (len(draws), *shape), blocks=blocks)
    for start in range(0, tables[0].precision, _TOSSES):
        tosses = list(islice(first, _TOSSES))
        for (j, result), (table, span) in product(enumerate(results), runs):
            coefficients = table.draws[j].coefficients[..., start : start + _TOSSES]
            accumulate(result[:, span], [toss[j, span] for toss in tosses], coefficients.reshape(len(result), -1))
    return results
