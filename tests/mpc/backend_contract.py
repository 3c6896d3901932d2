"""What every `Backend` must do, as a function that each party runs at the same time."""

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import Backend, CorrelationRequest, Words
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import NoisedVector, RingVector

__all__ = ["RecordingBackend", "check_backend", "contract_schedule"]

Lanes = NDArray[np.int64]


def check_backend(backend: Backend) -> None:
    """Assert the contract of one backend. All parties call it together; it consumes `contract_schedule`.

    A check of random bits fails a correct backend with probability below 1e-9.
    """
    assert 0 <= backend.rank < backend.party_count
    check_reveal(backend)
    check_public_and_lane_order(backend)
    check_random_words(backend)
    check_xor_is_local(backend)
    check_and(backend)
    check_and_of_public_words(backend)


def contract_schedule() -> tuple[CorrelationRequest, ...]:
    """List the correlated randomness that `check_backend` consumes, in order."""
    recorder = RecordingBackend(PlaintextBackend())
    check_backend(recorder)
    return tuple(recorder.requests)


class RecordingBackend:
    """Passes everything on to another backend and notes the correlated randomness it consumes."""

    def __init__(self, backend: Backend) -> None:
        self.requests: list[CorrelationRequest] = []
        self.rank = backend.rank
        self.party_count = backend.party_count
        self.random_words = backend.random_words
        self.public = backend.public
        self.reveal = backend.reveal
        self._backend = backend

    def and_words(self, x: Words, y: Words) -> Words:
        self.requests.append(CorrelationRequest("and", x.size))
        return self._backend.and_words(x, y)

    def bits_to_arithmetic(self, bits: Words) -> RingVector:
        self.requests.append(CorrelationRequest("bit", bits.size))
        return self._backend.bits_to_arithmetic(bits)


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


def check_public_and_lane_order(backend: Backend) -> None:
    """Column 64 * j + i of converted bits is bit i of word j; only one party holds public words."""
    words = np.array([[1, 2, -(2**63)], [-1, 0, 0x0123456789ABCDEF]], dtype=np.int64)
    shared = backend.public(words)
    assert np.array_equal(shared, words if backend.rank == 0 else np.zeros_like(words))
    values = backend.bits_to_arithmetic(shared)
    assert values.shape == (2, 3 * 64)
    assert values.dtype == np.int64
    assert np.array_equal(_reveal(backend, values), _unpack(words))
    shared[...] = 0
    assert words[0].tolist() == [1, 2, -(2**63)]  # what was given is not what was got


def check_random_words(backend: Backend) -> None:
    """Shared random bits are fair, lane by lane and word by word, and new at every call."""
    first, second = backend.random_words((16, 8)), backend.random_words((16, 8))
    assert first.shape == (16, 8)
    assert first.dtype == np.int64
    assert backend.random_words((2, 3, 5)).shape == (2, 3, 5)
    x, y = _open(backend, first), _open(backend, second)
    _assert_fair(x)
    _assert_fair(y)
    _assert_fair(x ^ y)
    _assert_fair(x[1:] ^ x[:-1])
    _assert_fair(x[:, 64:] ^ x[:, :-64])


def check_xor_is_local(backend: Backend) -> None:
    """XOR of shares is a share of the XOR."""
    x, y = backend.random_words((3, 2)), backend.random_words((3, 2))
    assert np.array_equal(_open(backend, x ^ y), _open(backend, x) ^ _open(backend, y))


def check_and(backend: Backend) -> None:
    """AND is right on random bits, for arrays of any shape and layout, and leaves its inputs alone."""
    for shape in ((1,), (130,), (4, 3), (2, 3, 2, 5)):
        x, y = backend.random_words(shape), backend.random_words(shape)
        _check_one_and(backend, x, y)
    x, y = backend.random_words((8, 6)), backend.random_words((8, 6))
    _check_one_and(backend, x[1::2], y[::2])
    _check_one_and(backend, x.T, y.T)
    _check_one_and(backend, x, x)
    _check_one_and(backend, np.broadcast_to(x[0], (4, 6)), y[:4])


def check_and_of_public_words(backend: Backend) -> None:
    """Public words are shares like any other: all four cases of AND."""
    x, y = backend.public(np.array([0b0011])), backend.public(np.array([0b0101]))
    assert _open(backend, backend.and_words(x, y)[np.newaxis])[0, :4].tolist() == [1, 0, 0, 0]


def _check_one_and(backend: Backend, x: Words, y: Words) -> None:
    before = x.copy(), y.copy()
    z = backend.and_words(x, y)
    assert z.shape == x.shape
    assert z.dtype == np.int64
    assert not np.shares_memory(z, x)
    assert not np.shares_memory(z, y)
    assert np.array_equal(x, before[0])
    assert np.array_equal(y, before[1])
    width = x.shape[-1]
    opened = [_open(backend, bits.reshape(-1, width)) for bits in (x, y, z)]
    assert np.array_equal(opened[2], opened[0] & opened[1])


def _open(backend: Backend, bits: Words) -> Lanes:
    """Open shared words, shape (n, w), as lanes, shape (n, 64 * w)."""
    lanes = _reveal(backend, backend.bits_to_arithmetic(bits))
    assert np.isin(lanes, (0, 1)).all()
    return lanes


def _reveal(backend: Backend, values: RingVector) -> Lanes:
    return backend.reveal(NoisedVector(values.reshape(-1))).reshape(values.shape)


def _unpack(words: Words) -> Lanes:
    return np.array([[(int(word) >> i) & 1 for word in row for i in range(64)] for row in words], dtype=np.int64)


def _assert_fair(bits: Lanes) -> None:
    """The number of ones is within 6.5 standard deviations of half."""
    assert abs(2 * int(bits.sum()) - bits.size) <= 6.5 * bits.size**0.5


def _ring_row(rank: int, dimension: int) -> RingVector:
    """Values of a party that wrap around when they are added."""
    return np.resize(np.array([rank + 1, 2**63 - 1 - rank, -(2**63) + rank, -1, 2**62, 0], dtype=np.int64), dimension)


def _wrap(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
