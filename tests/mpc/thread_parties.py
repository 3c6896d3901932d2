"""Run all parties of a joint computation as threads of the test, with or without secret shares."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import BLOCK_DIGITS, CorrelationSource, Mesh, NormMasks, Words
from mpcdp.secret_sharing.randomness import KeyStream, derive_key
from mpcdp.secret_sharing.shares import NoisedVector, RingVector, Verdicts

__all__ = ["SharingBackendUnsafe", "block_products", "run_in_threads"]

T = TypeVar("T")


class _Meeting:
    """Where the parties of one run put down and pick up their messages."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=20)
        self.messages: list[tuple[str, bytes | memoryview]] = [("", b"")] * size


class _ThreadMesh:
    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank = rank
        self.size = size
        self._meeting = meeting

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        self._meeting.messages[self.rank] = (operation, payload)
        self._meeting.barrier.wait()
        messages = list(self._meeting.messages)
        self._meeting.barrier.wait()
        assert {name for name, _ in messages} == {operation}
        return [content for _, content in messages]


def run_in_threads(party_count: int, job: Callable[[Mesh], T]) -> list[T]:
    """Run ``job(mesh)`` as every party at once and return the results in rank order."""
    meeting = _Meeting(party_count)

    def party(rank: int) -> T:
        try:
            return job(_ThreadMesh(rank, party_count, meeting))
        except BaseException:
            meeting.barrier.abort()
            raise

    with ThreadPoolExecutor(party_count) as pool:
        return list(pool.map(party, range(party_count)))


class SharingBackendUnsafe:
    """A backend that truly shares every bit, but computes each gate by opening its inputs: for tests of circuits.

    Its random bits but for the masks of `random_integers` are the XOR of the parties' own streams, drawn in the order
    in which `PlaintextBackend` draws them.

    A circuit that treats shares as if they were values gives wrong results here, and right ones in the clear.
    """

    def __init__(self, mesh: Mesh, secret: bytes) -> None:
        self._mesh = mesh
        self.rank = mesh.rank
        self.party_count = mesh.size
        self._own = KeyStream(derive_key(secret, salt=bytes([mesh.rank]), purpose="test-own"))
        self._common = KeyStream(derive_key(secret, salt=b"", purpose="test-common"))

    def random_words(self, shape: tuple[int, ...]) -> Words:
        return self._own.words(int(np.prod(shape))).reshape(shape)

    def public(self, words: Words) -> Words:
        return words.copy() if self.rank == 0 else np.zeros_like(words)

    def and_rows(self, rows: Words, selector: Words) -> Words:
        return self._share(self._open("and", rows) & self._open("selector", selector))

    def select(self, coefficients: Words, selectors: Words) -> Words:
        values = self._open("coefficients", coefficients)
        for bit, selector in enumerate(self._open("selectors", selectors)):
            halves = values.reshape(-1, 2, 1 << bit, *coefficients.shape[1:])
            halves[:, 1] = halves[:, 0] ^ halves[:, 1] & selector
            values = np.concatenate([halves[:, 1], halves[:, 1]], axis=1).reshape(values.shape)
        return self._share(values[0])

    def select_random(self, coefficients: Words) -> Words:
        shape = (len(coefficients).bit_length() - 1, *coefficients.shape[2:])
        return self.select(coefficients, self.random_words(shape))

    def and_all(self, rows: Words) -> Words:
        return self._share(np.bitwise_and.reduce(self._open("all", rows), axis=0))

    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        return self._share(np.bitwise_and.accumulate(self._open("chain", self.random_words((length, *shape))), axis=0))

    def extend_chain(self, head: Words, length: int) -> Words:
        return self.and_rows(self.random_chain(length, head.shape), head)

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        digits = self._common.words(bits * words).reshape(bits, words)
        values = _integers(digits)
        others = [self._common.words(65 * bits * words) for _ in range(self.party_count - 1)]
        pairs = [(each[: digits.size].reshape(digits.shape), each[-values.size :]) for each in others]
        for other_digits, other_values in pairs:
            digits = digits ^ other_digits
            values = values - other_values
        return pairs[self.rank - 1] if self.rank else (digits, values)

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        share = _integers(self._open("digits", digits))
        own = [self._common.words(share.size) for _ in range(self.party_count - 1)]
        for mask in own:
            share -= mask
        return (own[self.rank - 1] if self.rank else share) - masks

    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        masks = self.draw_masks(values.size)
        products = self._share(block_products(masks, digits))
        rows = [masks] if shift == 0 else [masks >> shift, (masks.view(np.uint64) >> np.uint64(shift)).view(np.int64)]
        shifted, squares = self._add_shares(np.stack(rows)), self._add_shares(np.stack([row * row for row in rows]))
        opened = masks.copy()
        for payload in self._mesh.exchange("masked", np.ascontiguousarray(values).tobytes()):
            opened += np.frombuffer(payload, dtype=np.int64)
        return opened, NormMasks(products, shifted, squares)

    def draw_masks(self, count: int) -> RingVector:
        """Draw the masks of `open_masked`, equal at all parties."""
        return self._common.words(count)

    def supply(self, correlations: CorrelationSource) -> None:
        """Needs none."""

    def reveal_verdicts(self, verdicts: Verdicts) -> NDArray[np.bool_]:
        words = self._open("verdicts", verdicts.bits)
        bits = (words[:, np.newaxis] >> np.arange(64)) & 1
        opened: NDArray[np.bool_] = bits.reshape(-1)[: verdicts.count] == 1
        return opened

    def reveal(self, vector: NoisedVector) -> RingVector:
        total = np.zeros(vector.dimension, dtype=np.int64)
        for payload in self._mesh.exchange("reveal", vector.values.tobytes()):
            total += np.frombuffer(payload, dtype=np.int64)
        return total

    def _open(self, operation: str, words: Words) -> Words:
        opened = np.zeros(words.size, dtype=np.int64)
        for payload in self._mesh.exchange(operation, np.ascontiguousarray(words).tobytes()):
            opened ^= np.frombuffer(payload, dtype=np.int64)
        return opened.reshape(words.shape)

    def _add_shares(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Share over the ring what everybody knows."""
        masks = [self._common.words(values.size).reshape(values.shape) for _ in range(self.party_count - 1)]
        for mask in masks:
            values = values - mask
        return masks[self.rank - 1] if self.rank else values

    def _share(self, words: Words) -> Words:
        """Share what everybody knows: all ranks but 0 draw their shares."""
        masks = [self._common.words(words.size).reshape(words.shape) for _ in range(self.party_count - 1)]
        for mask in masks:
            words = words ^ mask
        return masks[self.rank - 1] if self.rank else words


def _integers(digits: Words) -> RingVector:
    """Read bit-sliced numbers, slowly."""
    lanes = ((digits[..., np.newaxis] >> np.arange(64)) & 1).reshape(len(digits), -1)
    values: RingVector = (1 << np.arange(len(digits))) @ lanes
    return values


def block_products(masks: RingVector, count: int) -> Words:
    """Compute the products of the digits of known masks that `NormMasks` speaks of, slowly."""
    digits = [(masks.reshape(-1, 64) >> place) & 1 for place in range(64 - count, 64)]
    digits += [np.zeros_like(digits[0])] * (-count % BLOCK_DIGITS)
    blocks = [digits[start : start + BLOCK_DIGITS] for start in range(0, len(digits), BLOCK_DIGITS)]
    products = [
        [np.prod([block[bit] for bit in range(BLOCK_DIGITS) if subset >> bit & 1], axis=0) for block in blocks]
        for subset in range(1, 1 << BLOCK_DIGITS)
    ]
    words: Words = (np.array(products) << np.arange(64)).sum(axis=-1)
    return words
