"""The `Backend` on CrypTen: its randomness, its openings, its reveal; gates on the dealer's correlations.

Values are integers throughout (CrypTen's precision 0): its fixed-point decoding is wrong for negative numbers and its
truncation for three or more parties, so neither is used. Gates are CrypTen's Beaver AND, whose formula it applies with
several allocations and without telling a selector or a fresh operand apart; here they work in place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from mpcdp.mpc.backend import CorrelationSource, Mesh, NormMasks, Words
from mpcdp.mpc.bit_slicing import LANES, integers, lanes
from mpcdp.mpc.crypten_session import CryptenSession, crypten_session
from mpcdp.mpc.dealing import Correlations, DealtCorrelations
from mpcdp.secret_sharing.shares import NoisedVector, RingVector, Verdicts

# isort: split
# CrypTen can be imported only after `crypten_session` has prepared torch for it.
from crypten.mpc.primitives import ArithmeticSharedTensor, BinarySharedTensor

__all__ = ["CryptenBackend", "crypten_engine"]


def _tensor(words: Words) -> torch.Tensor:
    """View an array as a tensor; copies only what torch cannot view."""
    return torch.from_numpy(np.require(words, dtype=np.int64, requirements=("C", "W")))


class CryptenBackend:
    """One party's handle on a joint computation in CrypTen; a `mpcdp.mpc.backend.Backend`.

    Args:
        session: an open `mpcdp.mpc.crypten_session.crypten_session`.

    Guarantees:
        Against any k - 1 semi-honest parties, nothing but what `reveal` and `reveal_verdicts` open is learnt:
        everything else that is opened is masked by words that are uniform unless the dealer colludes. Against the
        dealer alone, fresh random operands
        are masked by the parties' common coins (`mpcdp.mpc.dealing`).
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

    def and_rows(self, rows: Words, selector: Words) -> Words:
        """Share rows[i] AND selector. One round, 8 (n + 1) bytes per word of the selector to each peer.

        Opens e_i = rows[i] ^ a_i and f = selector ^ b. Then x_i & y = (e_i & b) ^ (f & x_i) ^ (a_i & b).

        Raises:
            ValueError: a row and the selector differ in shape.
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        if rows.shape[1:] != selector.shape:
            raise ValueError(f"AND needs a selector of the rows' shape {rows.shape[1:]}, not {selector.shape}")
        masks, products = self._session.provider.dealt.products(len(rows), selector.size)
        mask = masks[-1].copy()
        masks[:-1] ^= rows.reshape(len(rows), -1)
        masks[-1] ^= selector.reshape(-1)
        everything = self._open(masks)
        opened, flips = everything[:-1], everything[-1]
        opened &= mask
        products ^= opened
        np.bitwise_and(rows.reshape(opened.shape), flips, out=opened)
        products ^= opened
        return products.reshape(rows.shape)

    def and_all(self, rows: Words) -> Words:
        """Share the AND of all rows. One round, 8 n bytes per word of the result to each peer.

        Opens e_i = rows[i] ^ a_i; the products of all subsets of the a_i are dealt.

        Raises:
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        words = prod(rows.shape[1:])
        shares = self._session.provider.dealt.chain(len(rows) - 1, words)
        flat = rows.reshape(len(rows), words)
        flips = self._open(flat ^ np.stack([shares[1 << row] for row in range(len(rows))]))
        chain = np.empty((len(rows), words), dtype=np.int64)
        chain[0] = flat[0]
        self._chain(shares, flips, chain)
        product: Words = chain[-1].reshape(rows.shape[1:])
        return product

    def select(self, coefficients: Words, selectors: Words) -> Words:
        """Share polynomials in the selectors. Two rounds, one for a single selector.

        Opens f_j = selectors[j] ^ b_j, then the coefficients; see `_select`.

        Raises:
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        if len(selectors) == 1:
            low, high = coefficients
            product = self.and_rows(high, selectors[0])
            product ^= low
            return product
        words = prod(selectors.shape[1:])
        dealt = self._session.provider.dealt.selection(len(selectors), coefficients.shape[1], words)
        bits = [(1 << j) - 1 for j in range(len(selectors))]
        flips = self._open(selectors.reshape(-1, words) ^ dealt[1][bits])
        return self._select(coefficients, flips, dealt)

    def select_random(self, coefficients: Words) -> Words:
        """Share polynomials in bits b_j ^ (common coins). One round.

        Raises:
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        count, words = len(coefficients).bit_length() - 1, prod(coefficients.shape[2:])
        dealt = self._session.provider.dealt.selection(count, coefficients.shape[1], words)
        return self._select(coefficients, self._session.coins.words(count * words).reshape(count, words), dealt)

    def _select(self, coefficients: Words, flips: Words, dealt: tuple[Words, Words, Words]) -> Words:
        """Share polynomials in the bits b_j ^ flips[j], the flips public.

        Rewrites them as polynomials in the b_j, opens e_S = c_S ^ a_S for their coefficients, and adds up c_0, all e_S
        & b_S and the dealt sum of all a_S & b_S.
        """
        masks, products, sums = dealt
        shifted = coefficients.reshape(len(coefficients), *sums.shape).copy()
        for j, flip in enumerate(flips):
            halves = shifted.reshape(-1, 2, 1 << j, *sums.shape)
            halves[:, 0] ^= halves[:, 1] & flip
        masks ^= shifted[1:]
        opened = self._open(masks)
        opened &= products[:, np.newaxis]
        sums ^= shifted[0]
        sums ^= np.bitwise_xor.reduce(opened, axis=0)
        return sums.reshape(coefficients.shape[1:])

    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        """Share prefix ANDs of fresh bits, each a mask ^ (common coins). No communication.

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        words = prod(shape)
        shares = self._session.provider.dealt.chain(length - 1, words)
        flips = self._session.coins.words(length * words).reshape(length, words)
        chain = np.empty((length, words), dtype=np.int64)
        chain[0] = shares[1] ^ self.public(flips[0])
        self._chain(shares, flips, chain)
        return chain.reshape(length, *shape)

    def extend_chain(self, head: Words, length: int) -> Words:
        """Share prefix ANDs of the head and fresh bits. One round, 8 bytes per word to each peer.

        Opens e = head ^ a_0; the fresh bits are a mask ^ (common coins) each.

        Raises:
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        shares = self._session.provider.dealt.chain(length, head.size)
        flips = np.empty((length + 1, head.size), dtype=np.int64)
        flips[0] = self._open(shares[1] ^ head.reshape(-1))
        flips[1:] = self._session.coins.words(length * head.size).reshape(length, -1)
        chain = np.empty((length + 1, head.size), dtype=np.int64)
        chain[0] = head.reshape(-1)
        self._chain(shares, flips, chain)
        return chain[1:].reshape(length, *head.shape)

    @staticmethod
    def _chain(shares: Correlations, flips: Words, chain: Words) -> None:
        """Fill in chain[j] = v_0 & ... & v_j, where v_j = a_j ^ flips[j] and the flips are public; chain[0] is given.

        Let W_j(T), T a set of masks after the j-th, be the AND of v_0, ..., v_j and of all masks in T. Then W_j(T) =
        W_(j-1)(T + {j}) ^ (flips[j] & W_(j-1)(T)), where W_(-1)(T) is dealt, and chain[j] = W_j({}).
        """
        for j, flip in enumerate(flips):
            for subset in range(2 << j, 1 << len(flips), 2 << j):
                shares[subset] &= flip
                shares[subset] ^= shares[subset | 1 << j]
            if j > 0:
                np.bitwise_and(chain[j - 1], flip, out=chain[j])
                chain[j] ^= shares[1 << j]

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        """Share dealt random integers. No communication.

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        return self._session.provider.dealt.integers(bits, words)

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        """Share x, given x + mask in binary. One round, 8 bytes per word of digits to each peer.

        Opens the digits but for the carry, and the carry ^ r for a dealt random bit r = [R]; then x = (what was
        opened) - mask + 2^n carry, and carry = R ^ z = R (1 - 2 z) + z.

        Raises:
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        bits, words = len(digits) - 1, digits.shape[1]
        (packed,), carry = self._session.provider.dealt.integers(1, words)
        frame = digits.copy()
        frame[-1] ^= packed
        opened = self._open(frame)
        flips = integers(opened[-1:])
        np.negative(carry, out=carry, where=flips.astype(np.bool_))
        if self.rank == 0:
            carry += flips
        carry <<= bits
        carry -= masks
        if self.rank == 0:
            carry += integers(opened[:-1])
        return carry

    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        """Open integers under dealt masks. One round, 8 bytes per lane to each peer.

        Raises:
            ProtocolError: the dealer sent too few corrections, or a peer's shapes differ.
        """
        frame, masks = self._session.provider.dealt.norms(digits, shift, values.size // LANES)
        return self._add_up(frame + values), masks

    def supply(self, correlations: CorrelationSource) -> None:
        """Take the next steps' correlations from another batch of the dealer's. No communication."""
        self._session.provider.supply(DealtCorrelations(correlations, rank=self.rank))

    def _open(self, words: Words) -> Words:
        """Open masked words to all parties, through CrypTen. One round."""
        opened: Words = BinarySharedTensor.from_shares(_tensor(words), precision=0).reveal().numpy()
        return opened

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
        return self._add_up(vector.values)

    def reveal_verdicts(self, verdicts: Verdicts) -> NDArray[np.bool_]:
        """Open verdicts to all parties, shape (count,). One round, one bit of each verdict to each peer, in words.

        Raises:
            TypeError: ``verdicts`` is anything else.
            ProtocolError: a peer has another number of verdicts.

        Reveals:
            The verdicts, to every compute party. If the round fails, some peers may have them all the same.
        """
        if not isinstance(verdicts, Verdicts):
            raise TypeError(f"only Verdicts can be revealed bit by bit, not a {type(verdicts).__name__}")
        return lanes(self._open(verdicts.bits))[: verdicts.count]

    def _add_up(self, values: RingVector) -> RingVector:
        """Open masked or noised integers to all parties, through CrypTen. One round."""
        shared = ArithmeticSharedTensor.from_shares(_tensor(values), precision=0)
        opened: RingVector = shared.reveal().numpy()
        return opened


@contextmanager
def crypten_engine(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[CryptenBackend]:
    """Run CrypTen over a mesh for as long as the context is open; at most once at a time in a process.

    Args:
        mesh: the parties.
        correlations: what the dealer sent; None if no gate and no random integer will be asked for.
    """
    with crypten_session(mesh, correlations) as session:
        yield CryptenBackend(session)
