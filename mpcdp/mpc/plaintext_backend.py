"""The circuits in the clear: for a party that samples its own noise alone, and as the oracle of the tests."""

import numpy as np

from mpcdp.mpc.backend import Mesh, Words
from mpcdp.mpc.bit_slicing import LANES, integers
from mpcdp.secret_sharing.randomness import KeyStream, random_key
from mpcdp.secret_sharing.shares import NoisedVector, RingVector

__all__ = ["PlaintextBackend"]


class PlaintextBackend:
    """A `Backend` without secrecy: rank 0 holds every value in plain, the other ranks hold zeros.

    Use it where there is nothing to hide from oneself: one party alone (per-party noise), or a test. Among several
    parties, rank 0 knows all noise, so nothing protects the owners from it.

    Args:
        rank: this party's index.
        party_count: number of parties.
        mesh: connection to the others; needed by `reveal` only, and only if there are others.
        stream: where rank 0's random bits come from; by default a fresh key of the operating system.
    """

    def __init__(
        self, *, rank: int = 0, party_count: int = 1, mesh: Mesh | None = None, stream: KeyStream | None = None
    ) -> None:
        if party_count > 1 and mesh is None:
            raise ValueError(f"a party among {party_count} needs a mesh to reveal anything")
        self.rank = rank
        self.party_count = party_count
        self._mesh = mesh
        self._stream = stream if stream is not None else KeyStream(random_key())

    def random_words(self, shape: tuple[int, ...]) -> Words:
        if self.rank != 0:
            return np.zeros(shape, dtype=np.int64)
        return self._stream.words(int(np.prod(shape))).reshape(shape)

    def public(self, words: Words) -> Words:
        return words.copy() if self.rank == 0 else np.zeros_like(words)

    def and_rows(self, rows: Words, selector: Words) -> Words:
        return rows & selector

    def select(self, coefficients: Words, selectors: Words) -> Words:
        return _evaluate(coefficients, selectors)

    def select_random(self, coefficients: Words) -> Words:
        shape = (len(coefficients).bit_length() - 1, *coefficients.shape[2:])
        return _evaluate(coefficients, self.random_words(shape))

    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        return np.bitwise_and.accumulate(self.random_words((length, *shape)), axis=0)

    def extend_chain(self, head: Words, length: int) -> Words:
        return self.random_chain(length, head.shape) & head

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        """Return zeros: they would mask what need not be hidden."""
        return np.zeros((bits, words), dtype=np.int64), np.zeros(LANES * words, dtype=np.int64)

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        return integers(digits) - masks

    def reveal(self, vector: NoisedVector) -> RingVector:
        if self._mesh is None:
            return vector.values.copy()
        total = np.zeros(vector.dimension, dtype=np.int64)
        for payload in self._mesh.exchange("reveal", np.ascontiguousarray(vector.values, dtype="<i8").tobytes()):
            total += np.frombuffer(payload, dtype="<i8")
        return total


def _evaluate(coefficients: Words, selectors: Words) -> Words:
    """Evaluate polynomials, one selector after the other, the last one first."""
    for selector in selectors[::-1]:
        low, high = np.split(coefficients, 2)
        coefficients = low ^ high & selector
    result: Words = coefficients[0]
    return result
