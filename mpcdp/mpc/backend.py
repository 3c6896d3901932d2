"""What a secure-computation engine offers to the circuits, and what it needs from the network.

Circuits are written once against `Backend` and run on every engine. Bits are *bit-sliced*: one int64 word holds the
same bit of 64 independent lanes. XOR of shared words is local (numpy's ``^``).

Gates come in the forms that are cheap to open and to deal for. An AND of two shared words opens both, masked; but a
selector that many words are ANDed with is opened once, and a *fresh random* operand not at all. To select from a table
by several bits, which is to evaluate a polynomial in them, has one gate of its own. `mpcdp.mpc.dealing` has the
equations.

Nothing secret is opened but for two types that no other code makes: a `NoisedVector`, and the `Verdicts` of a
contribution check.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mpcdp.secret_sharing.shares import NoisedVector, RingVector, Verdicts

__all__ = ["BLOCK_DIGITS", "Backend", "CorrelationRequest", "CorrelationSource", "Mesh", "NormMasks", "Words"]

Words = NDArray[np.int64]
"""One party's XOR-share of bit-sliced bits; any shape, 64 lanes per word."""

BLOCK_DIGITS = 4
"""Neighbouring digits of a mask whose products are dealt."""


@dataclass(frozen=True, eq=False, repr=False)
class NormMasks:
    """One party's shares of what is dealt about the masks r of some integers that were opened as x + r.

    Args:
        products: XOR-shares of the products of the highest digits of r, cut into blocks of four from the lowest one
            on: shape (15, blocks, words); entry [T - 1, b] is the AND of those digits i of block b for which bit i of
            T is set. Digits beyond the 64th count as 0.
        shifted: shares over Z_2^64 of r >> shift, first of r read as a signed integer, then as an unsigned one, shape
            (2, 64 * words); a single row, r itself, if the shift is 0.
        squares: shares over Z_2^64 of their squares, of the same shape.
    """

    products: Words
    shifted: NDArray[np.int64]
    squares: NDArray[np.int64]


class Backend(Protocol):
    """One party's handle on a joint computation of ``party_count`` parties.

    All parties call the same methods with equal shapes in the same order. No method changes its arguments.
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

    def and_rows(self, rows: Words, selector: Words) -> Words:
        """Share rows[i] AND selector for every i. One round, n + 1 words opened per word of the selector.

        Args:
            rows: shape (n, ...).
            selector: shape (...), that of one row.

        Returns:
            Shape (n, ...).
        """
        ...

    def select(self, coefficients: Words, selectors: Words) -> Words:
        """Share polynomials in the selectors: the XOR, over all sets of them, of a coefficient AND their product.

        Two rounds, one for a single selector; q + (2^q - 1) n words opened per word of a selector.

        Args:
            coefficients: shape (2^q, n, ...); bit j of the first index tells whether selector j is in the set.
            selectors: shape (q, ...), q at least 1.

        Returns:
            Shape (n, ...).
        """
        ...

    def select_random(self, coefficients: Words) -> Words:
        """Share polynomials in fresh random selectors. One round, (2^q - 1) n words opened per word of a selector.

        Args:
            coefficients: shape (2^q, n, ...), as for `select`.

        Returns:
            Shape (n, ...). The q selectors are used here and nowhere else.
        """
        ...

    def and_all(self, rows: Words) -> Words:
        """Share the AND of all rows, under fresh shares. One round, n words opened per word of the result.

        Args:
            rows: shape (n, ...), n from 2 to 5; corrections grow as 2^n.

        Returns:
            Shape (...).
        """
        ...

    def random_chain(self, length: int, shape: tuple[int, ...]) -> Words:
        """Share r_0, r_0 & r_1, ..., the prefix ANDs of fresh random bits. No communication.

        Args:
            length: number of bits, at least 2; corrections grow as 2^length.
            shape: of each.

        Returns:
            Shape (length, *shape).
        """
        ...

    def extend_chain(self, head: Words, length: int) -> Words:
        """Share head & r_0, head & r_0 & r_1, ..., with fresh random bits. One round, one word opened per word.

        Args:
            head: any shape.
            length: number of random bits, at least 1; corrections grow as 2^(length + 1).

        Returns:
            Shape (length, *head.shape).
        """
        ...

    def random_integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        """Share fresh random integers, both bit by bit and over Z_2^64. No communication.

        Returns:
            Digits, least significant first, shape (bits, words); and values, shape (64 * words,): entry 64 * j + i is
            the integer of lane i (bit i, least significant first) of word j. Uniform below 2^bits and unknown unless
            all parties collude; a backend without secrecy may return zeros.
        """
        ...

    def unmask(self, digits: Words, masks: RingVector) -> RingVector:
        """Share x over Z_2^64, given the digits of x + mask. One round, one bit opened per digit and lane.

        Args:
            digits: shape (n + 1, words): x + mask in binary, where x < 2^n and the mask is of `random_integers` of n
                bits, used nowhere else. The last digit, the carry, is converted and stays secret.
            masks: shape (64 * words,): the masks' values.

        Returns:
            Shape (64 * words,).
        """
        ...

    def open_masked(self, values: RingVector, *, digits: int, shift: int) -> tuple[RingVector, NormMasks]:
        """Open integers under fresh dealt masks, x + r over Z_2^64. One round, 8 bytes opened per lane.

        Args:
            values: shape (64 * words,).
            digits: how many of the highest digits of r are needed in binary, from 1 to 64.
            shift: how far r is shifted before it is squared, from 0 to 63.

        Returns:
            x + r, public and equal at all parties, shape (64 * words,); and what is shared of r, which is uniform, used
            here and nowhere else, and unknown unless all parties collude. A backend without secrecy may take r = 0.
        """
        ...

    def supply(self, correlations: "CorrelationSource") -> None:
        """Take what the dealer sent for the next steps; nothing of an earlier source is used any more."""
        ...

    def reveal_verdicts(self, verdicts: Verdicts) -> NDArray[np.bool_]:
        """Open the verdicts of a contribution check to all parties, shape (count,). One round.

        Reveals:
            One bit of each verdict, to every compute party; the other bits of the last word are not opened.
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
    """Correlated randomness that one step of a circuit consumes; `mpcdp.mpc.dealing` has the equations.

    Args:
        kind: ``"and"``: masks of ``fan`` rows of coefficients and of their selectors, and the products; ``"chain"``:
            masks of a head and of ``fan`` random bits, and the products of all their subsets; ``"integer"``: random
            integers of ``fan`` bits, in both sharings; ``"norm"``: uniform masks of 64 digits, products of their
            ``fan`` highest digits, and squares of what is left when ``shift`` digits are dropped.
        fan: number of rows, of random bits after the head, or of digits.
        words: number of 64-lane words of each.
        selectors: number of selectors of an ``"and"``; 1 for the other kinds, which have none.
        shift: digits dropped before squaring, for ``"norm"`` alone.

    Raises:
        ValueError: a number is not positive, or the fan, the selectors or the shift are out of the kind's range.
    """

    kind: Literal["and", "chain", "integer", "norm"]
    fan: int
    words: int
    selectors: int = 1
    shift: int = 0

    def __post_init__(self) -> None:
        largest = {"and": 1 << 20, "chain": 4, "integer": 63, "norm": 64}[self.kind]
        if not 1 <= self.fan <= largest or self.words < 1:
            raise ValueError(f"correlations {self.kind!r} have a fan of 1 to {largest} and a positive number of words")
        most = 8 if self.kind == "and" else 1
        if not 1 <= self.selectors <= most:
            raise ValueError(f"correlations {self.kind!r} have 1 to {most} selectors")
        if not 0 <= self.shift <= (63 if self.kind == "norm" else 0):
            raise ValueError(f"correlations {self.kind!r} have no shift of {self.shift}")


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
