"""Comparing a shared integer with public ones, when it was opened under a dealt mask: c = z + r mod 2^64, c public.

Let C and R be the numbers that the m highest digits of c and r form, and zeta = C - R mod 2^m. Then zeta < 2^l exactly
if, with beta = [the l lowest digits of R form a larger number than those of C], a borrow,

    the other digits of R are those of C              and beta = 0,   or
    the other digits of R are those of C - 2^l        and beta = 1.

Every comparison is of a secret with a *public* number. On a block of four digits it is a polynomial in the digits of r
with public coefficients, and as the products of those digits are dealt, it takes no communication:

    [R = C]  =  AND over i of (r_i ^ n_i),      [R > C]  =  r_3 n_3 ^ (r_3 ^ n_3) [R > C on the digits below],

where n_i = NOT c_i. What is left is to join blocks.
"""

from collections.abc import Iterator

import numpy as np

from mpcdp.mpc.backend import BLOCK_DIGITS, Backend, CorrelationRequest, NormMasks, Words
from mpcdp.mpc.bit_slicing import LANES, digits_of
from mpcdp.mpc.noise.circuits import invert
from mpcdp.secret_sharing.shares import RingVector

__all__ = ["conjunction", "conjunction_requests", "is_small", "is_small_requests"]

_LARGEST_ARITY = 5


def is_small(backend: Backend, opened: RingVector, masks: NormMasks, *, digits: int, blocks: int) -> Words:
    """Share whether zeta < 16^blocks, shape (words,).

    Args:
        backend: where to compute.
        opened: c, shape (64 * words,).
        masks: of r, with products of its ``digits`` highest digits.
        digits: m.
        blocks: l / 4; fewer than the digits have.

    Returns:
        Shares that nothing else depends on. Two rounds for one block and up to 64 digits, three for 15 blocks; 24 bits
        opened per lane for one block of 32 digits.
    """
    step = np.int64(1 << LANES - digits + BLOCK_DIGITS * blocks)
    exact, lowered = (_in_blocks(digits_of(values), digits) for values in (opened, opened - step))
    low, high = masks.products[:, :blocks], masks.products[:, blocks:]
    greater = _evaluate(backend, _greater(exact[:, :blocks]), low)
    equal = _evaluate(backend, _equal(exact[:, :blocks]), low) if blocks > 1 else greater
    beta = _join(backend, greater, equal)
    kept = _evaluate(backend, _equal(exact[:, blocks:]), high)
    borrowed = _evaluate(backend, _equal(lowered[:, blocks:]), high)
    cases = [np.stack([invert(backend, beta), *kept]), np.stack([beta, *borrowed])]
    first, second = conjunction(backend, np.stack(cases, axis=1))
    result: Words = first ^ second  # they exclude each other
    return result


def is_small_requests(*, digits: int, blocks: int, words: int) -> Iterator[CorrelationRequest]:
    """List what `is_small` consumes, beside the masks."""
    count = blocks
    for arity in _arities(blocks):
        count = -(-count // arity)
        yield CorrelationRequest("chain", arity - 1, arity * count * words)
    yield from conjunction_requests(-(-digits // BLOCK_DIGITS) - blocks + 1, 2 * words)


def conjunction(backend: Backend, rows: Words) -> Words:
    """Share the AND of all rows, shape (n, ...) to (...). ceil(log_5 n) rounds."""
    for arity in _arities(len(rows)):
        missing = np.full((-len(rows) % arity, *rows.shape[1:]), -1)
        filled = np.concatenate([rows, backend.public(missing)])
        rows = backend.and_all(filled.reshape(-1, arity, *rows.shape[1:]).swapaxes(0, 1))
    result: Words = rows[0]
    return result


def conjunction_requests(count: int, words: int) -> Iterator[CorrelationRequest]:
    """List what `conjunction` of ``count`` rows of ``words`` words consumes."""
    for arity in _arities(count):
        count = -(-count // arity)
        yield CorrelationRequest("chain", arity - 1, count * words)


def _arities(count: int) -> Iterator[int]:
    """Yield how many rows are joined in each round: as few rounds as there can be, and then as few rows."""
    rounds = 0
    while _LARGEST_ARITY**rounds < count:
        rounds += 1
    for left in range(rounds, 0, -1):
        arity = next(arity for arity in range(2, _LARGEST_ARITY + 1) if arity**left >= count)
        yield arity
        count = -(-count // arity)


def _join(backend: Backend, greater: Words, equal: Words) -> Words:
    """Compare numbers whose blocks were compared, shape (blocks, words) to (words,); the last block decides first.

    Neighbours, of which the last is p, join to [R > C] = G_p ^ E_p G_(p-1) ^ E_p E_(p-1) G_(p-2) ^ ..., a sum of cases
    that exclude each other, and [R = C] = E_p E_(p-1) ... . One round for up to five of them.
    """
    for arity in _arities(len(greater)):
        missing = -len(greater) % arity
        neutral = np.full((missing, *greater.shape[1:]), -1)  # blocks without digits are equal
        equal = np.concatenate([equal, backend.public(neutral)]).reshape(-1, arity, *equal.shape[1:])
        greater = np.concatenate([greater, np.zeros_like(neutral)]).reshape(equal.shape)
        factors = np.empty((arity, arity, len(equal), *equal.shape[2:]), dtype=np.int64)
        factors[:] = backend.public(np.full(factors.shape[2:], -1))
        for case in range(arity - 1):  # the last case is that all are equal
            factors[case, case] = greater[:, case]
            for block in range(case + 1, arity):
                factors[block, case] = equal[:, block]
        factors[:, -1] = equal.swapaxes(0, 1)
        joined = backend.and_all(factors)
        greater = np.bitwise_xor.reduce(joined[:-1], axis=0) ^ greater[:, -1]
        equal = joined[-1]
    result: Words = greater[0]
    return result


def _in_blocks(digits: Words, count: int) -> Words:
    """Cut the highest of 64 public digits into blocks, filled up with zeros: shape (4, blocks, words)."""
    blocks = -(-count // BLOCK_DIGITS)
    filled = np.zeros((blocks * BLOCK_DIGITS, digits.shape[1]), dtype=np.int64)
    filled[:count] = digits[LANES - count :]
    return filled.reshape(blocks, BLOCK_DIGITS, -1).swapaxes(0, 1)


def _equal(public: Words) -> Words:
    """Compute the coefficients of [R = C] on every block, shape (4, ...) to (16, ...); entry T is that of AND_T r."""
    coefficients = np.full((1, *public.shape[1:]), -1)
    for digit in ~public:
        coefficients = np.concatenate([coefficients & digit, coefficients])
    return coefficients


def _greater(public: Words) -> Words:
    """Compute the coefficients of [R > C] on every block, shape (4, ...) to (16, ...)."""
    coefficients = np.zeros((1, *public.shape[1:]), dtype=np.int64)
    for digit in ~public:
        upper = coefficients.copy()
        upper[0] ^= digit
        coefficients = np.concatenate([coefficients & digit, upper])
    return coefficients


def _evaluate(backend: Backend, coefficients: Words, products: Words) -> Words:
    """Share the value of a polynomial on every block. Local."""
    value: Words = np.bitwise_xor.reduce(coefficients[1:] & products, axis=0)
    value ^= backend.public(coefficients[0])
    return value
