"""Correlated randomness: what the dealer computes from the parties' seeds, and what each party expands from its own.

Every party gets a 256-bit seed; the party of rank 0 also gets *corrections*, because shares that are all pseudo-random
satisfy no equation. With k parties, ``^`` and ``&`` on words of 64 lanes, and sums over Z_2^64, a request of n words
yields

* ``"and"``: Beaver triples. Party p expands n words each of a_p, b_p and c_p, and rank 0's c_0 is its correction

      c_0 = (a_0 ^ ... ^ a_{k-1}) & (b_0 ^ ... ^ b_{k-1}) ^ c_1 ^ ... ^ c_{k-1}                         (n words);

* ``"bit"``: random bits in both sharings. Party p expands n packed words r_p and 64 n ring elements R_p, and rank 0's
  R_0 is its correction

      R_0 = lanes(r_0 ^ ... ^ r_{k-1}) - R_1 - ... - R_{k-1}                                         (64 n words).

Each of a, b, c, r and R is a keystream of its own, read in the schedule's order. So nobody expands what a correction
replaces, and neither side need agree on how the other cuts the work into blocks.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import CorrelationRequest, CorrelationSource, Words
from mpcdp.secret_sharing.randomness import KeyStream, derive_key
from mpcdp.secret_sharing.shares import RingVector

__all__ = [
    "CHUNK_BYTES",
    "DealtCorrelations",
    "ReceivedCorrelations",
    "batch_seeds",
    "correction_words",
    "deal",
    "lanes",
    "schedule_digest",
]

CHUNK_BYTES = 1 << 20
"""Largest piece in which corrections are computed and sent."""

_LANES = 64
_WORD_BYTES = 8
_BLOCK_WORDS = {"and": CHUNK_BYTES // _WORD_BYTES, "bit": CHUNK_BYTES // (_WORD_BYTES * _LANES)}


def lanes(words: Words) -> RingVector:
    """Unpack words into one ring element, 0 or 1, per lane.

    Args:
        words: shape (..., w).

    Returns:
        Shape (..., 64 * w): entry 64 * j + i is bit i, least significant first, of word j.
    """
    packed = np.ascontiguousarray(words, dtype="<i8")
    bits = np.unpackbits(packed.view(np.uint8), axis=-1, bitorder="little")
    return bits.astype(np.int64)


def correction_words(request: CorrelationRequest) -> int:
    """Return how many words of corrections rank 0 receives for a request."""
    return request.words * (_LANES if request.kind == "bit" else 1)


def schedule_digest(schedule: Sequence[CorrelationRequest]) -> bytes:
    """Hash a schedule, so that the dealer and the parties notice when they expect different correlations.

    Returns:
        SHA-256, 32 bytes.
    """
    digest = hashlib.sha256(b"mpcdp/1/schedule" + len(schedule).to_bytes(8, "big"))
    for request in schedule:
        digest.update(request.kind.encode() + b"\0" + request.words.to_bytes(8, "big"))
    return digest.digest()


def batch_seeds(dealer_secret: bytes, nonces: Sequence[bytes], ref: bytes, batch: str) -> tuple[bytes, ...]:
    """Derive the parties' seeds of one batch (HKDF-SHA256 over all nonces).

    Args:
        dealer_secret: 256-bit key that only the dealer knows.
        nonces: one nonce of 32 bytes from each party, in rank order, drawn for this batch.
        ref: what identifies the session, such as its task digest and id.
        batch: name of the batch; each name is dealt once per session.

    Returns:
        One seed of 32 bytes for each party.

    Raises:
        ValueError: fewer than two nonces, or one that does not have 32 bytes.

    Guarantees:
        A batch gets fresh seeds if the dealer's secret or *any one* nonce is fresh, so that a dealer or a party that is
        restored from a snapshot cannot bring old correlations back: a triple used twice would uncover what it hid.
    """
    if len(nonces) < 2:
        raise ValueError(f"correlations are dealt to at least two parties, not {len(nonces)}")
    salt = hashlib.sha256(b"mpcdp/1/batch" + len(nonces).to_bytes(8, "big"))
    for rank, nonce in enumerate(nonces):
        if len(nonce) != 32:
            raise ValueError(f"the nonce of compute party {rank} has 32 bytes, not {len(nonce)}")
        salt.update(nonce)
    for field in (ref, batch.encode()):
        salt.update(len(field).to_bytes(8, "big") + field)
    return tuple(
        derive_key(dealer_secret, salt=salt.digest(), purpose=f"correlations/{rank}") for rank in range(len(nonces))
    )


class _Expansion:
    """The five keystreams of one party's seed. The dealer and the party both read them here, so they cannot differ."""

    def __init__(self, seed: bytes) -> None:
        def stream(purpose: str) -> KeyStream:
            return KeyStream(derive_key(seed, salt=b"mpcdp/1/expansion", purpose=purpose))

        self.left = stream("triple/a")
        self.right = stream("triple/b")
        self.product = stream("triple/c")
        self.packed_bits = stream("bit/r")
        self.ring_bits = stream("bit/R")


class DealtCorrelations:
    """One party's shares of the dealt correlations, handed out in the schedule's order.

    Args:
        source: what the dealer sent to this party.
        rank: this party's index; rank 0 reads its last share from the corrections instead of its seed.
    """

    def __init__(self, source: CorrelationSource, *, rank: int) -> None:
        self._source = source
        self._corrected = rank == 0
        self._expansion = _Expansion(source.seed)

    def triples(self, words: int) -> tuple[Words, Words, Words]:
        """Return shares (a, b, c) of Beaver triples, each of shape (words,), writable.

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        product = self._source.corrections(words) if self._corrected else self._expansion.product.words(words)
        return self._expansion.left.words(words), self._expansion.right.words(words), product

    def bits(self, words: int) -> tuple[Words, RingVector]:
        """Return shares of random bits: (r, R) of shapes (words,), XOR-shared, and (64 * words,), added; writable.

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        count = words * _LANES
        ring = self._source.corrections(count) if self._corrected else self._expansion.ring_bits.words(count)
        return self._expansion.packed_bits.words(words), ring


def _blocks(schedule: Iterable[CorrelationRequest]) -> Iterator[CorrelationRequest]:
    """Merge neighbours of one kind and cut the result, so that each block's corrections fill at most one chunk."""
    for kind, run in groupby(schedule, key=lambda request: request.kind):
        remaining = sum(request.words for request in run)
        while remaining > 0:
            words = min(remaining, _BLOCK_WORDS[kind])
            yield CorrelationRequest(kind, words)
            remaining -= words


def deal(schedule: Sequence[CorrelationRequest], seeds: Sequence[bytes]) -> Iterator[bytes]:
    """Compute rank 0's corrections, in the order in which it consumes them.

    Args:
        schedule: what the parties will consume.
        seeds: the parties' seeds in rank order, from `batch_seeds`.

    Yields:
        Little-endian int64 words, at most `CHUNK_BYTES` at a time. Memory: a few chunks, for any schedule.

    Raises:
        ValueError: fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"correlations are dealt to at least two parties, not {len(seeds)}")
    parties = [_Expansion(seed) for seed in seeds]
    for block in _blocks(schedule):
        correction = (
            _triple_correction(parties, block.words) if block.kind == "and" else _bit_correction(parties, block.words)
        )
        yield correction.astype("<i8", copy=False).tobytes()


def _triple_correction(parties: Sequence[_Expansion], words: int) -> Words:
    """Compute c_0 = (xor of all a) & (xor of all b) ^ c_1 ^ ... ^ c_{k-1}, shape (words,)."""
    left, right = parties[0].left.words(words), parties[0].right.words(words)
    for party in parties[1:]:
        left ^= party.left.words(words)
        right ^= party.right.words(words)
    left &= right
    for party in parties[1:]:
        left ^= party.product.words(words)
    return left


def _bit_correction(parties: Sequence[_Expansion], words: int) -> RingVector:
    """Compute R_0 = lanes(xor of all r) - R_1 - ... - R_{k-1}, shape (64 * words,)."""
    packed = parties[0].packed_bits.words(words)
    for party in parties[1:]:
        packed ^= party.packed_bits.words(words)
    ring = lanes(packed)
    for party in parties[1:]:
        ring -= party.ring_bits.words(words * _LANES)
    return ring


class ReceivedCorrelations:
    """A party's seed and its stream of corrections; a `mpcdp.mpc.backend.CorrelationSource`.

    Args:
        seed: 32 bytes.
        chunks: the dealer's correction bytes in pieces of any size, read as they are needed; none at ranks above 0.
    """

    def __init__(self, seed: bytes, chunks: Iterator[bytes]) -> None:
        self._seed = seed
        self._chunks = chunks
        self._rest = memoryview(b"")

    def __repr__(self) -> str:
        return "ReceivedCorrelations(<redacted>)"

    @property
    def seed(self) -> bytes:
        """This party's 256-bit seed for the batch."""
        return self._seed

    def corrections(self, words: int) -> RingVector:
        """Return the next correction words, shape (words,), writable.

        Raises:
            ProtocolError: the dealer's stream ends before.
        """
        result = np.empty(words, dtype="<i8")
        target = result.view(np.uint8).data
        filled = 0
        while filled < len(target):
            if not self._rest:
                self._rest = self._next_chunk(missing=len(target) - filled)
            count = min(len(self._rest), len(target) - filled)
            target[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count
        return result

    def _next_chunk(self, *, missing: int) -> memoryview:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise ProtocolError(
                f"the dealer sent {missing} bytes of corrections less than the schedule needs; "
                "run the same release of mpcdp and the same task at the dealer and at all compute parties"
            )
        return memoryview(chunk)

    def finish(self) -> None:
        """Check that the dealer's stream ends where the schedule does.

        Raises:
            ProtocolError: corrections are left over.
        """
        if self._rest or any(len(chunk) > 0 for chunk in self._chunks):
            raise ProtocolError(
                "the dealer sent more corrections than the schedule needs; "
                "run the same release of mpcdp and the same task at the dealer and at all compute parties"
            )
