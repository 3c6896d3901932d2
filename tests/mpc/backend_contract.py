"""What every `Backend` must do, as a function that each party runs at the same time."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from thread_parties import block_products

from mpcdp.mpc.backend import Backend, CorrelationRequest, CorrelationSource, NormMasks, Words
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import NoisedVector, RingVector, Verdicts

__all__ = ["RecordingBackend", "check_backend", "contract_schedule", "open_lanes"]

Lanes = NDArray[np.int64]


def check_backend(backend: Backend) -> None:
    """Assert the contract of one backend. All parties call it together; it consumes `contract_schedule`.

    A check of random bits fails a correct backend with probability below 1e-9.
    """
    assert 0 <= backend.rank < backend.party_count
    check_reveal(backend)
    check_unmask(backend)
    check_public_and_lane_order(backend)
    check_random_words(backend)
    check_random_integers(backend)
    check_xor_is_local(backend)
    check_and_rows(backend)
    check_and_of_public_words(backend)
    check_and_all(backend)
    check_open_masked(backend)
    check_reveal_verdicts(backend)
    check_select(backend)
    check_select_random(backend)
    check_random_chain(backend)
    check_extend_chain(backend)


def contract_schedule() -> tuple[CorrelationRequest, ...]:
    """List the correlated randomness that `check_backend` consumes, in order."""
    recorder = RecordingBackend(PlaintextBackend())
    check_backend(recorder)
    return tuple(recorder.requests)


class RecordingBackend:
    """Passes everything on to another backend and notes the correlated randomness, the openings and the rounds.

    Attributes:
        requests: what the dealer is asked for.
        opened: words that each step opens to every peer.
        ands: number of word ANDs; a row selected by q bits takes 2^q - 1, as many as a tree of choices between two.
    """

    def __init__(self, backend: Backend) -> None:
        self.requests: list[CorrelationRequest] = []
        self.opened: list[int] = []
        self.ands = 0
        self.rank = backend.rank
        self.party_count = backend.party_count
        self.random_words = backend.random_words
        self.public = backend.public
        self.reveal = backend.reveal
        self.reveal_verdicts = backend.reveal_verdicts
        self._backend = backend

    def _note(self, kind: Literal["and", "chain", "integer"], fan: int, words: int, selectors: int = 1) -> None:
        self.requests.append(CorrelationRequest(kind, fan, words, selectors))

    def and_rows(self, rows: Words, selector: Words) -> Words:
        self._note("and", len(rows), selector.size)
        self.opened.append(rows.size + selector.size)
        self.ands += rows.size
        return self._backend.and_rows(rows, selector)

    def select(self, coefficients: Words, selectors: Words) -> Words:
        self._note("and", coefficients.shape[1], selectors[0].size, len(selectors))
        if len(selectors) == 1:
            self.opened.append(selectors.size + coefficients[1:].size)
        else:
            self.opened += [selectors.size, coefficients[1:].size]
        self.ands += coefficients[1:].size
        return self._backend.select(coefficients, selectors)

    def select_random(self, coefficients: Words) -> Words:
        self._note("and", coefficients.shape[1], prod(coefficients.shape[2:]), len(coefficients).bit_length() - 1)
        self.opened.append(coefficients[1:].size)
        self.ands += coefficients[1:].size
        return self._backend.select_random(coefficients)

    def and_all(self, rows: Words) -> Words:
        words = prod(rows.shape[1:])
        self._note("chain", len(rows) - 1, words)
        self.opened.append(rows.size)
        self.ands += (len(rows) - 1) * words
        return self._backend.and_all(rows)

    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        self.requests.append(CorrelationRequest("norm", digits, values.size // 64, shift=shift))
        self.opened.append(values.size)
        return self._backend.open_masked(values, digits=digits, shift=shift)

    def supply(self, correlations: CorrelationSource) -> None:
        self._backend.supply(correlations)

    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        self._note("chain", length - 1, prod(shape))
        self.ands += (length - 1) * prod(shape)
        return self._backend.random_chain(length, shape)

    def extend_chain(self, head: Words, length: int) -> Words:
        self._note("chain", length, head.size)
        self.opened.append(head.size)
        self.ands += length * head.size
        return self._backend.extend_chain(head, length)

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        self._note("integer", bits, words)
        return self._backend.random_integers(bits, words)

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        self._note("integer", 1, digits.shape[1])
        self.opened.append(digits.size)
        return self._backend.unmask(digits, masks)


def check_reveal(backend: Backend) -> None:
    """Opening adds the parties' shares in the ring, and does not change them."""
    for dimension in (1, 7, 1000):
        rows = [_ring_row(rank, dimension) for rank in range(backend.party_count)]
        share = NoisedVector(rows[backend.rank].copy())
        opened = backend.reveal(share)
        expected = [_wrap(sum(int(row[column]) for row in rows)) for column in range(dimension)]
        assert opened.shape == (dimension,)
        assert opened.dtype == np.int64
        assert opened.tolist() == expected
        assert np.array_equal(share.values, rows[backend.rank])


def check_unmask(backend: Backend) -> None:
    """Unmasking subtracts the masks, and counts the last digit, the carry, 2^n times; column 64 * j + i is lane i."""
    for bits in (1, 5, 40):
        digits = np.resize(np.array([1, 2, -(2**63), -1, 0, 0x0123456789ABCDEF, -2]), (bits + 1, 3))
        masks = _ring_row(backend.rank, 3 * 64)
        total = sum(_ring_row(rank, 3 * 64).astype(object) for rank in range(backend.party_count))
        expected = 2 ** np.arange(bits + 1, dtype=object) @ _unpack(digits) - total
        shared, given = backend.public(digits), masks.copy()
        values = backend.unmask(shared, given)
        assert values.shape == (3 * 64,)
        assert values.dtype == np.int64
        assert _reveal(backend, values).tolist() == [_wrap(int(value)) for value in expected]
        assert np.array_equal(shared, backend.public(digits))
        assert np.array_equal(given, masks)


def check_public_and_lane_order(backend: Backend) -> None:
    """Only one party holds public words; opened lanes are in order."""
    words = np.array([[1, 2, -(2**63)], [-1, 0, 0x0123456789ABCDEF]], dtype=np.int64)
    shared = backend.public(words)
    assert np.array_equal(shared, words if backend.rank == 0 else np.zeros_like(words))
    assert open_lanes(backend, shared).tolist() == _unpack(words).tolist()
    shared[...] = 0
    assert words[0].tolist() == [1, 2, -(2**63)]  # what was given is not what was got


def check_random_words(backend: Backend) -> None:
    """Shared random bits are fair, lane by lane and word by word, and new at every call."""
    first, second = backend.random_words((16, 8)), backend.random_words((16, 8))
    assert first.shape == (16, 8)
    assert first.dtype == np.int64
    assert backend.random_words((2, 3, 5)).shape == (2, 3, 5)
    x, y = open_lanes(backend, first), open_lanes(backend, second)
    _assert_fair(x)
    _assert_fair(y)
    _assert_fair(x ^ y)
    _assert_fair(x[1:] ^ x[:-1])
    _assert_fair(x[:, 64:] ^ x[:, :-64])


def check_xor_is_local(backend: Backend) -> None:
    """XOR of shares is a share of the XOR."""
    x, y = backend.random_words((3, 2)), backend.random_words((3, 2))
    assert np.array_equal(open_lanes(backend, x ^ y), open_lanes(backend, x) ^ open_lanes(backend, y))


def check_random_integers(backend: Backend) -> None:
    """Digits and values agree, and are uniform unless the backend has no secrecy."""
    for bits, words in ((1, 1), (6, 4), (63, 2)):
        digits, values = backend.random_integers(bits, words)
        assert (digits.shape, values.shape) == ((bits, words), (64 * words,))
        opened = 2 ** np.arange(bits, dtype=object) @ open_lanes(backend, digits).astype(object)
        assert _reveal(backend, values).tolist() == opened.tolist()
    digits = np.concatenate([backend.random_integers(16, 8)[0] for _ in range(2)])
    lanes = open_lanes(backend, digits)
    if lanes.any():
        for bits_ in (lanes, lanes[:16] ^ lanes[16:], lanes[1:] ^ lanes[:-1], lanes[:, 64:] ^ lanes[:, :-64]):
            _assert_fair(bits_)
    else:
        assert isinstance(getattr(backend, "_backend", backend), PlaintextBackend)


def check_and_rows(backend: Backend) -> None:
    """AND is right on random bits, for arrays of any shape and layout, and leaves its inputs alone."""
    for shape in ((1, 1), (1, 130), (4, 4, 3), (2, 3, 2, 5)):
        _check_one_and(backend, backend.random_words(shape), backend.random_words(shape[1:]))
    x, y = backend.random_words((8, 6)), backend.random_words((8, 6))
    _check_one_and(backend, x[1::2], y[0])
    _check_one_and(backend, x.T, y[:, 2])
    _check_one_and(backend, x, x[3])
    _check_one_and(backend, np.broadcast_to(x[0], (4, 6)), y[2])
    _check_one_and(backend, x.reshape(2, 4, 6)[:, ::2], y[1::4])


def check_and_of_public_words(backend: Backend) -> None:
    """Public words are shares like any other: all four cases of AND."""
    x, y = backend.public(np.array([[0b0011]])), backend.public(np.array([0b0101]))
    assert open_lanes(backend, backend.and_rows(x, y))[0, :4].tolist() == [1, 0, 0, 0]


def check_and_all(backend: Backend) -> None:
    """All combinations of bits, for two to five rows of any shape, under shares that nothing else has."""
    for rows in (2, 3, 4, 5):
        cases = np.array([[case >> row & 1 for case in range(1 << rows)] for row in range(rows)])
        words = backend.public(-cases)
        before = words.copy()
        product = backend.and_all(words.reshape(rows, 2, -1))
        assert product.shape == (2, 1 << rows - 1)
        assert product.dtype == np.int64
        assert np.array_equal(words, before)
        assert open_lanes(backend, product.reshape(1, -1))[0, ::64].tolist() == [0] * ((1 << rows) - 1) + [1]
        drawn = backend.random_words((rows, 4, 3))
        expected = np.bitwise_and.reduce(open_lanes(backend, drawn.reshape(rows, -1)), axis=0)
        product = backend.and_all(drawn[:, ::2].swapaxes(1, 2))
        picked = open_lanes(backend, product.T.reshape(1, -1)).reshape(2, -1)
        assert np.array_equal(picked, expected.reshape(4, -1)[::2])


def check_open_masked(backend: Backend) -> None:
    """What is opened minus the mask is the value, and everything that is shared of the mask fits it."""
    for digits, shift, words in ((32, 0, 2), (29, 5, 1), (64, 63, 1), (7, 20, 3)):
        row = _ring_row(backend.rank, 64 * words)
        given = row.copy()
        opened, dealt = backend.open_masked(given, digits=digits, shift=shift)
        assert np.array_equal(given, row)
        assert opened.dtype == np.int64
        total = np.sum([_ring_row(rank, 64 * words) for rank in range(backend.party_count)], axis=0)
        masks = [_wrap(int(c) - int(x)) for c, x in zip(opened, total, strict=True)]
        unsigned = [mask % 2**64 for mask in masks]
        rows = [masks] if shift == 0 else [[mask >> shift for mask in masks], [mask >> shift for mask in unsigned]]
        assert dealt.shifted.shape == dealt.squares.shape == (len(rows), 64 * words)
        assert _reveal(backend, dealt.shifted).tolist() == [[_wrap(value) for value in each] for each in rows]
        assert _reveal(backend, dealt.squares).tolist() == [[_wrap(value**2) for value in each] for each in rows]
        expected = block_products(np.array(masks), digits)
        assert dealt.products.shape == expected.shape == (15, -(-digits // 4), words)
        lanes = open_lanes(backend, dealt.products.reshape(15, -1))
        assert np.array_equal(lanes, _unpack(expected.reshape(15, -1)))
    first, second = (backend.open_masked(np.zeros(64, dtype=np.int64), digits=4, shift=0)[0] for _ in range(2))
    if first.any():
        assert np.unique(np.concatenate([first, second])).size == 128  # fresh masks every time
    else:
        assert isinstance(getattr(backend, "_backend", backend), PlaintextBackend)


def check_reveal_verdicts(backend: Backend) -> None:
    """Verdicts come in order, and nothing beyond the last."""
    words = np.array([0b1011, -1, 0x0123456789ABCDEF], dtype=np.int64)
    for count in (1, 4, 64, 65, 130, 192):
        share = backend.public(words[: -(-count // 64)]) ^ 0
        opened = backend.reveal_verdicts(Verdicts(share, count=count))
        assert opened.dtype == np.bool_
        assert opened.tolist() == _unpack(words[np.newaxis])[0, :count].astype(bool).tolist()


def check_select(backend: Backend) -> None:
    """Polynomials are right on random bits, for arrays of any shape and layout, and inputs are left alone."""
    for shape in ((2, 1, 1), (2, 3, 2, 4), (4, 1, 130), (8, 2, 3, 5), (32, 3, 2)):
        _check_one_select(backend, backend.random_words(shape), _random_selectors(backend, shape))
    x, y = backend.random_words((6, 8, 4)), backend.random_words((4, 6))
    _check_one_select(backend, x.T, y[::2][::-1])
    _check_one_select(backend, np.broadcast_to(x[0], (4, 8, 4)), y[:2, 1:5])
    _check_one_select(backend, x[1:5], x[0, 2:4])
    _check_one_select(backend, x[:4, ::2].reshape(4, 2, 2, 4), x[4:, 1:3])


def check_select_random(backend: Backend) -> None:
    """All rows are polynomials in the same fair, independent, fresh bits."""
    for count in (1, 2, 3):
        subsets = range(1 << count)
        for _ in range(2):
            # Row m is the monomial m: the coefficients of the identity, masked by another sharing of zero.
            coefficients = backend.public(np.repeat(-np.eye(1 << count, dtype=np.int64), 64, axis=1))
            coefficients = coefficients.reshape(1 << count, 1 << count, 64)
            before = coefficients.copy()
            monomials = backend.select_random(coefficients)
            assert monomials.shape == coefficients.shape[1:]
            assert monomials.dtype == np.int64
            assert not np.shares_memory(monomials, coefficients)
            assert np.array_equal(coefficients, before)
            opened = open_lanes(backend, monomials)
            assert opened[0].all()
            bits = [opened[1 << j] for j in range(count)]
            for subset in subsets:
                assert np.array_equal(
                    opened[subset], np.prod([opened[0], *(bits[j] for j in range(count) if subset >> j & 1)], axis=0)
                )
                if subset:  # the bits and all their sums are fair
                    _assert_fair(np.sum([bits[j] for j in range(count) if subset >> j & 1], axis=0) % 2)
        secret = backend.random_words((1 << count, 2, 3, 30))
        selected = open_lanes(backend, backend.select_random(secret).reshape(2, -1))
        table = [open_lanes(backend, words.reshape(2, -1)) for words in secret]
        assert (np.stack([_value(table, subset) for subset in subsets]) == selected).all(axis=1).any(axis=0).all()
    strided = backend.random_words((4, 3, 6)).transpose(0, 2, 1)[:, ::2]
    assert backend.select_random(strided).shape == (3, 3)
    ones = backend.public(np.stack([np.zeros((1, 64), dtype=np.int64), np.full((1, 64), -1)]))
    _assert_fair(open_lanes(backend, backend.select_random(ones)) ^ open_lanes(backend, backend.select_random(ones)))


def _random_selectors(backend: Backend, shape: tuple[int, ...]) -> Words:
    return backend.random_words((shape[0].bit_length() - 1, *shape[2:]))


def _value(coefficients: Sequence[Lanes], point: int) -> Lanes:
    """Evaluate polynomials at a set of bits that are 1."""
    value: Lanes = np.bitwise_xor.reduce([c for subset, c in enumerate(coefficients) if subset & ~point == 0])
    return value


def _check_one_select(backend: Backend, coefficients: Words, selectors: Words) -> None:
    before = coefficients.copy(), selectors.copy()
    result = backend.select(coefficients, selectors)
    assert result.shape == coefficients.shape[1:]
    assert result.dtype == np.int64
    assert not np.shares_memory(result, coefficients)
    assert not np.shares_memory(result, selectors)
    assert np.array_equal(coefficients, before[0])
    assert np.array_equal(selectors, before[1])
    rows = coefficients.shape[1]
    table = [open_lanes(backend, words.reshape(rows, -1)) for words in coefficients]
    points = 2 ** np.arange(len(selectors)) @ open_lanes(backend, selectors.reshape(len(selectors), -1))
    opened = open_lanes(backend, result.reshape(rows, -1))
    for point in range(len(coefficients)):
        assert np.array_equal(opened[:, points == point], _value(table, point)[:, points == point])


def check_random_chain(backend: Backend) -> None:
    """Prefix ANDs of fair, independent, fresh bits: 1 in a half, a quarter, ... of all lanes."""
    for length in (2, 3, 4):
        chain, other = (backend.random_chain(length, (8, 16)) for _ in range(2))
        assert chain.shape == (length, 8, 16)
        assert chain.dtype == np.int64
        opened, others = (open_lanes(backend, words.reshape(length, -1)) for words in (chain, other))
        _assert_halves(opened)
        _assert_fair(opened[0] ^ others[0])


def check_extend_chain(backend: Backend) -> None:
    """Prefix ANDs of the head and fair, independent, fresh bits."""
    for length in (1, 2, 3):
        head = np.stack([backend.public(np.full((4, 16), -1)), backend.random_words((4, 16))], axis=1)[:, 0]
        before = head.copy()
        chain, other = (backend.extend_chain(head, length) for _ in range(2))
        assert chain.shape == (length, 4, 16)
        assert chain.dtype == np.int64
        assert np.array_equal(head, before)
        opened, others = (open_lanes(backend, words.reshape(length, -1)) for words in (chain, other))
        _assert_halves(opened)
        _assert_fair(opened[0] ^ others[0])
        head = backend.random_words((4, 16))
        x = open_lanes(backend, head.reshape(1, -1))
        opened = open_lanes(backend, backend.extend_chain(head, length).reshape(length, -1))
        assert not np.any(opened[:1] & ~x)
        _assert_halves(opened[:, x[0] == 1])


def _assert_halves(chain: Lanes) -> None:
    """Row 0 is fair, and every further row is fair where the one above is 1 and is 0 elsewhere."""
    _assert_fair(chain[0])
    for above, below in pairwise(chain):
        assert not np.any(below & ~above)
        _assert_fair(below[above == 1])


def _check_one_and(backend: Backend, rows: Words, selector: Words) -> None:
    before = rows.copy(), selector.copy()
    product = backend.and_rows(rows, selector)
    assert product.shape == rows.shape
    assert product.dtype == np.int64
    assert not np.shares_memory(product, rows)
    assert not np.shares_memory(product, selector)
    assert np.array_equal(rows, before[0])
    assert np.array_equal(selector, before[1])
    x, y, z = (open_lanes(backend, bits.reshape(-1, selector.size)) for bits in (rows, selector[np.newaxis], product))
    assert np.array_equal(z, x & y)


def open_lanes(backend: Backend, bits: Words) -> Lanes:
    """Open shared words, shape (n, w), as lanes, shape (n, 64 * w). All parties call it together."""
    flat = bits.reshape(1, -1)
    digits = np.concatenate([backend.public(np.zeros_like(flat)), flat])  # 2 x, and no mask
    lanes = _reveal(backend, backend.unmask(digits, np.zeros(64 * flat.size, dtype=np.int64)))
    assert np.isin(lanes, (0, 2)).all()
    return lanes.reshape(len(bits), -1) // 2


def _reveal(backend: Backend, values: RingVector) -> Lanes:
    return backend.reveal(NoisedVector(values.reshape(-1))).reshape(values.shape)


def _unpack(words: Words) -> Lanes:
    return np.array([[(int(word) >> i) & 1 for word in row for i in range(64)] for row in words], dtype=object)


def _assert_fair(bits: Lanes) -> None:
    """The number of ones is within 6.5 standard deviations of half."""
    assert abs(2 * int(bits.sum()) - bits.size) <= 6.5 * bits.size**0.5


def _ring_row(rank: int, dimension: int) -> RingVector:
    """Values of a party that wrap around when they are added."""
    return np.resize(np.array([rank + 1, 2**63 - 1 - rank, -(2**63) + rank, -1, 2**62, 0], dtype=np.int64), dimension)


def _wrap(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
