"""The check as the parties run it, on all owners of a round at once.

Costs, for owners of d coordinates of which 32 digits matter (range_digits = 35), per owner and coordinate:

===========================  =======================================================
sent to each peer            8 bytes of masked coordinates, 3 of masked bits, 1/6 to join them
dealt to rank 0              56 bytes of corrections; 32 if the shift is 0
===========================  =======================================================

and 11 rounds, the reveal included, besides one for each factor 5 in d / 64 begun: 11 for d up to 64, 12 up to 320, 15
up to 40,000; each further 2^19 coordinates take a few more. Everything that is opened before the last round is masked
by what the dealer dealt for this check and for no other.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import BLOCK_DIGITS, Backend, CorrelationRequest, NormMasks, Words
from mpcdp.mpc.bit_slicing import LANES, digits_of, lanes, words_of
from mpcdp.mpc.contribution_check.comparison import (
    conjunction,
    conjunction_requests,
    is_small,
    is_small_requests,
)
from mpcdp.mpc.contribution_check.norm_check import NormCheck
from mpcdp.secret_sharing.shares import RingVector, SharedVector, Verdicts

__all__ = ["check_contributions", "check_schedule"]

_Bits = NDArray[np.bool_]

_CHUNK_WORDS = 1 << 13
"""At most 2^19 coordinates are checked at a time, which bounds memory however many there are."""

_SIGN_BLOCKS = LANES // BLOCK_DIGITS - 1
"""Blocks below the highest one: what is compared with a threshold is below 16^15 = 2^60 if it is not negative."""


def check_contributions(
    backend: Backend, check: NormCheck, owners: Sequence[int], shares: Iterable[SharedVector]
) -> Verdicts:
    """Share, for each owner, whether its vector passes; see `mpcdp.mpc.contribution_check.norm_check`.

    Every party calls it with the same owners. It takes the correlated randomness of `check_schedule`.

    Args:
        backend: where to compute.
        check: the public numbers.
        owners: their positions in the task; at least one.
        shares: this party's share of each one's vector, in the same order; read as they are needed.

    Returns:
        One verdict for each owner, ready to be revealed.

    Reveals:
        Nothing.
    """
    remaining = iter(shares)
    ranges, sums = [], []
    for size in _groups(len(owners), check.dimension):
        values = np.concatenate([share.values for share in islice(remaining, size)])
        in_range, squares = _check_coordinates(backend, check, values)
        ranges.append(_for_each_owner(backend, in_range, size))
        sums.append(squares.reshape(size, -1).sum(axis=1))
    rests = -np.concatenate(sums)
    if backend.rank == 0:
        rests += np.array([check.thresholds[owner] for owner in owners])
    opened, masks = backend.open_masked(_filled(rests), digits=LANES, shift=0)
    short = is_small(backend, opened, masks, digits=LANES, blocks=_SIGN_BLOCKS)
    # Bit i of an owner's word becomes the owner's lane of row i.
    rows = np.concatenate([digits_of(_filled(np.concatenate(ranges))), short[np.newaxis]])
    return Verdicts(conjunction(backend, rows), count=len(owners))


def check_schedule(check: NormCheck, owner_count: int) -> tuple[CorrelationRequest, ...]:
    """List the correlated randomness that a check of so many owners consumes, in order.

    Raises:
        ValueError: the number of owners is not positive.
    """
    if owner_count < 1:
        raise ValueError(f"a check is of at least one owner, not {owner_count}")
    return tuple(_requests(check, owner_count))


def _requests(check: NormCheck, owner_count: int) -> Iterator[CorrelationRequest]:
    digits = LANES - check.lowest_digit
    for size in _groups(owner_count, check.dimension):
        for words in _chunks(size * check.dimension):
            yield CorrelationRequest("norm", digits, words, shift=check.shift)
            yield from is_small_requests(digits=digits, blocks=1, words=words)
        yield from conjunction_requests(_words(check.dimension), size)
    words = _words(owner_count)
    yield CorrelationRequest("norm", LANES, words)
    yield from is_small_requests(digits=LANES, blocks=_SIGN_BLOCKS, words=words)
    yield from conjunction_requests(LANES + 1, words)


def _check_coordinates(backend: Backend, check: NormCheck, values: RingVector) -> tuple[_Bits, RingVector]:
    """Share which coordinates are in range, and the squares of what is left of each."""
    digits, count = LANES - check.lowest_digit, values.size
    values = _filled(values)
    if backend.rank == 0:
        values += np.int64(1 << check.range_digits)
    in_range, squares = [], []
    start = 0
    for words in _chunks(count):
        end = start + LANES * words
        opened, masks = backend.open_masked(values[start:end], digits=digits, shift=check.shift)
        in_range.append(is_small(backend, opened, masks, digits=digits, blocks=1))
        squares.append(_squares(backend, check, opened, masks))
        start = end
    bits = lanes(np.concatenate(in_range))[:count]
    return bits, np.concatenate(squares)[:count]


def _squares(backend: Backend, check: NormCheck, opened: RingVector, masks: NormMasks) -> RingVector:
    """Share (a - rho)^2 = a^2 - 2 a rho + rho^2, where a is public, and rho and its square are dealt. Local."""
    opened = opened + np.int64(1 << check.lowest_digit)
    wraps = opened < 0  # c' >= M/2
    rho = np.where(wraps, masks.shifted[-1], masks.shifted[0])
    squares: RingVector = np.where(wraps, masks.squares[-1], masks.squares[0])
    public = (opened.view(np.uint64) >> np.uint64(check.shift)).view(np.int64)
    public = public - np.int64(9 << check.kept_digits - 3)
    squares -= 2 * public * rho
    if backend.rank == 0:
        squares += public * public
    return squares


def _for_each_owner(backend: Backend, bits: _Bits, size: int) -> Words:
    """Join the words of each owner's coordinates to one, shape (size,)."""
    dimension = bits.size // size
    filled = np.full((size, LANES * _words(dimension)), backend.rank == 0)  # what is missing counts as in range
    filled[:, :dimension] = bits.reshape(size, dimension)
    return conjunction(backend, np.ascontiguousarray(words_of(filled).T))


def _filled(values: RingVector) -> RingVector:
    """Copy values into whole words of lanes; zeros take the rest."""
    filled = np.zeros(LANES * _words(values.size), dtype=np.int64)
    filled[: values.size] = values
    return filled


def _groups(owner_count: int, dimension: int) -> Iterator[int]:
    """Split owners into groups whose coordinates fit a chunk; a longer vector is a group of its own."""
    size = max(1, LANES * _CHUNK_WORDS // dimension)
    for start in range(0, owner_count, size):
        yield min(size, owner_count - start)


def _chunks(count: int) -> Iterator[int]:
    """Split coordinates into chunks, in words."""
    words = _words(count)
    for start in range(0, words, _CHUNK_WORDS):
        yield min(_CHUNK_WORDS, words - start)


def _words(count: int) -> int:
    return -(-count // LANES)
