"""What a secure-computation engine offers to the circuits, and what it needs from the network.

Circuits are written once against `Backend` and run on every engine. Bits are *bit-sliced*: one int64 word holds the
same bit of 64 independent lanes. XOR of shared words is local (numpy's ``^``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mpcdp.secret_sharing.shares import NoisedVector, RingVector

__all__ = ["Backend", "CorrelationRequest", "CorrelationSource", "Mesh", "Words"]

Words = NDArray[np.int64]
"""One party's XOR-share of bit-sliced bits; any shape, 64 lanes per word."""


class Backend(Protocol):
    """One party's handle on a joint computation of ``party_count`` parties.

    All parties call the same methods with equal shapes in the same order.
    """

    @property
    def rank(self) -> int:
        """This party's index, 0 .. party_count - 1."""
        ...

    @property
    def party_count(self) -> int:
        """Number of parties k."""
        ...

    def random_words(self, shape: tuple[int, ...]) -> Words:
        """Share fresh uniform bits that are unknown unless all parties collude. No communication."""
        ...

    def public(self, words: Words) -> Words:
        """Share public words: rank 0 holds them, the others zero. No communication."""
        ...

    def and_words(self, x: Words, y: Words) -> Words:
        """Share x AND y, for equal shapes. One round."""
        ...

    def bits_to_arithmetic(self, bits: Words) -> RingVector:
        """Convert XOR-shared bits to additive shares of 0 or 1 over Z_2^64. One round, opened packed.

        Args:
            bits: shape (n, w).

        Returns:
            Shape (n, 64 * w): column 64 * j + i holds lane i (bit i, least significant first) of word j.
        """
        ...

    def reveal(self, vector: NoisedVector) -> RingVector:
        """Open a noised vector to all parties, shape (d,). One round, d * 8 bytes to each peer.

        Reveals:
            The noised vector, to every compute party. A `SharedVector` does not fit: it must be noised first.
        """
        ...


@dataclass(frozen=True)
class CorrelationRequest:
    """Correlated randomness that one step of a circuit consumes.

    Args:
        kind: ``"and"``: Beaver triples, c = a AND b over XOR shares; ``"bit"``: random bits r in both sharings.
        words: number of 64-lane words.
    """

    kind: Literal["and", "bit"]
    words: int


class CorrelationSource(Protocol):
    """What a party receives from the dealer."""

    @property
    def seed(self) -> bytes:
        """This party's 256-bit seed for the batch."""
        ...

    def corrections(self, words: int) -> RingVector:
        """Return the next correction words, shape (words,); only the party of rank 0 is sent any."""
        ...


class Mesh(Protocol):
    """Reliable ordered messages between all compute parties of a session."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        """Send one payload to every peer and receive one from each; the result is indexed by rank. One round.

        Args:
            operation: name of the step; peers must be at the same one.
            payload: same length at every party unless the operation says otherwise.

        Raises:
            PeerError: a peer is gone or late.
            ProtocolError: a peer is at another step, so the parties have lost step with each other.
        """
        ...
