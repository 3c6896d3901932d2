"""The `Backend` whose operations are CrypTen's: Beaver ANDs, conversion of bits, and the reveal.

Values are integers throughout (CrypTen's precision 0): its fixed-point decoding is wrong for negative numbers and its
truncation for three or more parties, so neither is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mpcdp.mpc.backend import CorrelationSource, Mesh, Words
from mpcdp.mpc.crypten_session import CryptenSession, crypten_session
from mpcdp.mpc.dealing import lanes
from mpcdp.secret_sharing.shares import NoisedVector, RingVector

# isort: split
# CrypTen can be imported only after `crypten_session` has prepared torch for it.
from crypten.mpc.primitives import ArithmeticSharedTensor, BinarySharedTensor, beaver

__all__ = ["CryptenBackend", "crypten_engine"]


def _tensor(words: Words) -> torch.Tensor:
    """View an array as a tensor; copies only what torch cannot view."""
    return torch.from_numpy(np.require(words, dtype=np.int64, requirements=("C", "W")))


class CryptenBackend:
    """One party's handle on a joint computation in CrypTen; a `mpcdp.mpc.backend.Backend`.

    Args:
        session: an open `mpcdp.mpc.crypten_session.crypten_session`.

    Guarantees:
        Against any k - 1 semi-honest parties, nothing but what `reveal` opens is learnt: what and_words and
        bits_to_arithmetic open is masked by words that are uniform unless the dealer colludes.
    """

    def __init__(self, session: CryptenSession) -> None:
        self._session = session

    @property
    def rank(self) -> int:
        """This party's index, 0 .. party_count - 1."""
        return self._session.communicator.get_rank()

    @property
    def party_count(self) -> int:
        """Number of parties k."""
        return self._session.communicator.get_world_size()

    def random_words(self, shape: tuple[int, ...]) -> Words:
        """Share uniform bits: each party draws its own words and their XOR is unknown. No communication."""
        words: Words = BinarySharedTensor.rand(shape).share.numpy()
        return words

    def public(self, words: Words) -> Words:
        """Share public words: rank 0 holds them, the others zero. No communication."""
        return words.copy() if self.rank == 0 else np.zeros_like(words)

    def and_words(self, x: Words, y: Words) -> Words:
        """Share x AND y with one Beaver triple of equal shape. One round, 16 bytes per word to each peer.

        Opens e = x ^ a and f = y ^ b, then z = (b & e) ^ (a & f) ^ (e & f at rank 0) ^ c.

        Raises:
            ValueError: the shapes differ.
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        if x.shape != y.shape:
            raise ValueError(f"AND needs equal shapes, not {x.shape} and {y.shape}")
        shares = (BinarySharedTensor.from_shares(_tensor(words), precision=0) for words in (x, y))
        product: Words = beaver.AND(*shares).share.numpy()
        return product

    def bits_to_arithmetic(self, bits: Words) -> RingVector:
        """Convert bits with dealt random bits r = lanes of R. One round, 8 bytes per word of 64 bits to each peer.

        Opens z = bits ^ r packed, then x = R * (1 - 2 z) + (z at rank 0), lane by lane.

        Raises:
            ValueError: ``bits`` does not have the shape (n, w).
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        if bits.ndim != 2:
            raise ValueError(f"bits to convert have a shape (n, w), not {bits.shape}")
        ring, packed = self._session.provider.packed_bits(bits.shape)
        opened = (BinarySharedTensor.from_shares(_tensor(bits), precision=0) ^ packed).reveal()
        flips = torch.from_numpy(lanes(opened.numpy()))
        converted: RingVector = ring.mul_(flips.mul(-2).add_(1)).add_(flips).share.numpy()
        return converted

    def reveal(self, vector: NoisedVector) -> RingVector:
        """Open a noised vector to all parties, shape (d,). One round, d * 8 bytes to each peer.

        Raises:
            TypeError: ``vector`` is anything else; a sum without noise cannot be opened.
            ProtocolError: a peer's dimension differs.

        Reveals:
            The noised vector, to every compute party. If the round fails, some peers may have it all the same.
        """
        if not isinstance(vector, NoisedVector):
            raise TypeError(f"only a NoisedVector can be revealed, not a {type(vector).__name__}")
        shared = ArithmeticSharedTensor.from_shares(_tensor(vector.values), precision=0)
        revealed: RingVector = shared.reveal().numpy()
        return revealed


@contextmanager
def crypten_engine(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[CryptenBackend]:
    """Run CrypTen over a mesh for as long as the context is open; at most once at a time in a process.

    Args:
        mesh: the parties.
        correlations: what the dealer sent; None if no AND and no conversion of bits will be asked for.
    """
    with crypten_session(mesh, correlations) as session:
        yield CryptenBackend(session)
