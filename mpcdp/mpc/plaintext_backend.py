"""The circuits in the clear: for a party that samples its own noise alone, and as the oracle of the tests."""

import numpy as np
from numpy.typing import NDArray

from mpcdp.mpc.backend import BLOCK_DIGITS, CorrelationSource, Mesh, NormMasks, Words
from mpcdp.mpc.bit_slicing import LANES, integers, lanes
from mpcdp.secret_sharing.randomness import KeyStream, random_key
from mpcdp.secret_sharing.shares import NoisedVector, RingVector, Verdicts

__all__ = ["PlaintextBackend"]


class PlaintextBackend:
    """A `Backend` without secrecy: rank 0 holds every value in plain, the other ranks hold zeros.

    Use it where there is nothing to hide from oneself: one party alone (per-party noise), or a test. Among several
    parties, rank 0 knows all noise, so nothing protects the owners from it.

    Args:
        rank: this party's index.
        party_count: number of parties.
        mesh: connection to the others; needed to open anything, and only if there are others.
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

    def and_all(self, rows: Words) -> Words:
        product: Words = np.bitwise_and.reduce(rows, axis=0)
        return product

    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        return np.bitwise_and.accumulate(self.random_words((length, *shape)), axis=0)

    def extend_chain(self, head: Words, length: int) -> Words:
        return self.random_chain(length, head.shape) & head

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        """Return zeros: they would mask what need not be hidden."""
        return np.zeros((bits, words), dtype=np.int64), np.zeros(LANES * words, dtype=np.int64)

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        return integers(digits) - masks

    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        """Open integers under masks of zero: there is nothing to hide."""
        blocks, rows = -(-digits // BLOCK_DIGITS), 2 if shift else 1
        products = np.zeros(((1 << BLOCK_DIGITS) - 1, blocks, values.size // LANES), dtype=np.int64)
        shifted, squares = (np.zeros((rows, values.size), dtype=np.int64) for _ in range(2))
        return self._add_up("masked", values), NormMasks(products, shifted, squares)

    def supply(self, correlations: CorrelationSource) -> None:
        """Leave the correlations alone: nothing here needs any."""

    def reveal_verdicts(self, verdicts: Verdicts) -> NDArray[np.bool_]:
        # The words of all ranks but 0 are zeros, so that a sum is their XOR.
        return lanes(self._add_up("verdicts", verdicts.bits))[: verdicts.count]

    def reveal(self, vector: NoisedVector) -> RingVector:
        return self._add_up("reveal", vector.values)

    def _add_up(self, operation: str, values: RingVector) -> RingVector:
        if self._mesh is None:
            return values.copy()
        total = np.zeros_like(values)
        for payload in self._mesh.exchange(operation, np.ascontiguousarray(values, dtype="<i8").tobytes()):
            total += np.frombuffer(payload, dtype="<i8")
        return total


def _evaluate(coefficients: Words, selectors: Words) -> Words:
    """Evaluate polynomials, one selector after the other, the last one first."""
    for selector in selectors[::-1]:
        low, high = np.split(coefficients, 2)
        coefficients = low ^ high & selector
    result: Words = coefficients[0]
    return result
