"""Correlated randomness: what the dealer computes from the parties' seeds, and what each party expands from its own.

Every party gets a 256-bit seed; the party of rank 0 also gets *corrections*, because shares that are all pseudo-random
satisfy no equation. A request of n words yields the following, where [x] is a share of x and every mask is uniform:

* ``"and"`` of m rows with one selector: masks [a_1], ..., [a_m], [b] and products [a_1 & b], ..., [a_m & b],
  XOR-shared. Corrections: m n words, rank 0's shares of the products.

* ``"and"`` of m rows with q selectors: masks [a_iS], for each row i and each nonempty set S of selectors, and [b_1],
  ..., [b_q]; the product b_S of each set of two or more, and for each row the XOR over all S of a_iS & b_S, XOR-shared.
  Corrections: (2^q - q - 1 + m) n words, rank 0's shares of the products and of the XORs.

* ``"chain"`` of m bits after a head: masks [a_0] (the head's), [a_1], ..., [a_m] and, for each subset of two or more of
  them, the product of that subset, XOR-shared. Corrections: (2^(m+1) - m - 2) n words, rank 0's shares of the products.

* ``"integer"`` of m bits: digits [r_0], ..., [r_(m-1)], XOR-shared, and for each lane the value [r_0 + 2 r_1 + 4 r_2 +
  ...] over Z_2^64. Corrections: 64 n words, rank 0's shares of the values.

* ``"norm"`` of m digits and a shift t: digits [r_0], ..., [r_63], XOR-shared; the highest m of them, cut into blocks of
  four from the lowest one on, the last filled up with zeros, and for each block the product of each subset of two or
  more of its digits, XOR-shared. For each lane, with r = r_0 + 2 r_1 + ... + 2^63 r_63, the values [r], [v], [v^2], [u]
  and [u^2] over Z_2^64, where u = floor(r / 2^t) and v = floor((r - 2^64 r_63) / 2^t); with t = 0, where u = v = r, the
  values [r] and [r^2] alone. Corrections: 11 ceil(m / 4) n words, rank 0's shares of the products, and 320 n words (128
  n with t = 0), those of the values.

A gate on secrets opens them masked: with e = x ^ a and f = y ^ b public among the parties, x & y = (e ^ a) & (f ^ b) is
a sum of products that are shared already. The masks of k - 1 parties say nothing about a and b, so e and f are uniform
to any k - 1 parties.

**A polynomial is opened coefficient by coefficient.** To select from a table by bits y_1, ..., y_q is to evaluate a
polynomial, the XOR over all sets S of c_S & y_S with y_S the product of S. Once all f_j = y_j ^ b_j are public, it is a
polynomial in the b_j instead, whose coefficients c'_S are XORs of the c_S that anybody can compute from his shares: c_S
gets f_j & c_(S + j), for one j after the other. With e_S = c'_S ^ a_S public, the XOR over all S of c'_S & b_S is that
of e_S & b_S, a public combination of shares, and of a_S & b_S, which is dealt as one word however many sets there are.

**A fresh random operand need not be opened.** Let f be a coin that all parties know and the dealer does not
(`mpcdp.mpc.common_coins`), and *define* the operand as y = b ^ f. To any k - 1 parties b is uniform, and so is y; to
the dealer f is uniform, and so is y. This is the trust that opening needs too: a dealer who could read the parties'
network would learn x from e, and one who colludes with a party learns everything either way.

Masks, products, digits and values of a party are a keystream each for every kind, read in the schedule's order; so
nobody expands what a correction replaces.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import BLOCK_DIGITS, CorrelationRequest, CorrelationSource, NormMasks, Words
from mpcdp.mpc.bit_slicing import LANES, integers
from mpcdp.secret_sharing.randomness import KeyStream, derive_key
from mpcdp.secret_sharing.shares import RingVector

__all__ = [
    "CHUNK_BYTES",
    "Correlations",
    "DealtCorrelations",
    "ReceivedCorrelations",
    "batch_seeds",
    "correction_words",
    "deal",
    "schedule_digest",
]

CHUNK_BYTES = 1 << 20
"""Corrections are sent in pieces of this size; the last may be smaller."""

Correlations = dict[int, Words]
"""Shares of a chain: for each subset of its masks, as a bit mask over 0 .. m, the product of that subset."""


def correction_words(request: CorrelationRequest) -> int:
    """Return how many words of corrections rank 0 receives for a request."""
    return _correction_rows(request) * request.words


def _correction_rows(request: CorrelationRequest) -> int:
    match request.kind:
        case "and":
            return len(_products(request.selectors)) + request.fan
        case "chain":
            return len(_products(request.fan + 1))
        case "integer":
            return LANES
    return _block_products(request) + LANES * (5 if request.shift else 2)


def _block_products(request: CorrelationRequest) -> int:
    """Count the products that a "norm" request deals of each lane."""
    return len(_products(BLOCK_DIGITS)) * -(-request.fan // BLOCK_DIGITS)


@cache
def _products(masks: int) -> tuple[int, ...]:
    """List the subsets, as bit masks, of two or more of some masks."""
    return tuple(subset for subset in range(1 << masks) if subset.bit_count() > 1)


def schedule_digest(schedule: Sequence[CorrelationRequest]) -> bytes:
    """Hash a schedule, so that the dealer and the parties notice when they expect different correlations.

    Returns:
        SHA-256, 32 bytes.
    """
    digest = hashlib.sha256(b"mpcdp/2/schedule" + len(schedule).to_bytes(8, "big"))
    for request in schedule:
        digest.update(request.kind.encode() + b"\0")
        for number in (request.fan, request.words, request.selectors, request.shift):
            digest.update(number.to_bytes(8, "big"))
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
    """The keystreams of one party's seed. The dealer and the party both read them here, so they cannot differ."""

    def __init__(self, seed: bytes) -> None:
        def stream(purpose: str) -> KeyStream:
            return KeyStream(derive_key(seed, salt=b"mpcdp/1/expansion", purpose=purpose))

        self._masks = {
            "and": stream("and/masks"),
            "chain": stream("chain/masks"),
            "integer": stream("integer/digits"),
            "norm": stream("norm/digits"),
        }
        self._results = {
            "and": stream("and/products"),
            "chain": stream("chain/products"),
            "integer": stream("integer/values"),
            "norm": stream("norm/products and values"),
        }

    def masks(self, request: CorrelationRequest) -> Words:
        """Return masks, shape (masks, words), the selectors' last and the head's first; digits, (fan, words).

        A mask of a norm has all its 64 digits.
        """
        rows = LANES if request.kind == "norm" else request.fan
        if request.kind == "chain":
            rows += 1
        elif request.kind == "and":
            rows = rows * ((1 << request.selectors) - 1) + request.selectors
        return self._masks[request.kind].words(rows * request.words).reshape(rows, request.words)

    def results(self, request: CorrelationRequest) -> Words:
        """Return this party's shares of what rank 0 gets as corrections, shape (correction_words(request),)."""
        return self._results[request.kind].words(correction_words(request))


class DealtCorrelations:
    """One party's shares of the dealt correlations, handed out in the schedule's order. All arrays are writable.

    Args:
        source: what the dealer sent to this party.
        rank: this party's index; rank 0 reads its last share from the corrections instead of its seed.
    """

    def __init__(self, source: CorrelationSource, *, rank: int) -> None:
        self._source = source
        self._corrected = rank == 0
        self._expansion = _Expansion(source.seed)

    def products(self, rows: int, words: int) -> tuple[Words, Words]:
        """Return the shares of an "and" request.

        Returns:
            Masks, shape (rows + 1, words), the selector's last; products, shape (rows, words).

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        request = CorrelationRequest("and", rows, words)
        return self._expansion.masks(request), self._results(request).reshape(rows, words)

    def selection(self, selectors: int, rows: int, words: int) -> tuple[Words, Words, Words]:
        """Return the shares of an "and" request of several selectors; q selectors have 2^q - 1 nonempty sets.

        Returns:
            Masks of the coefficients, shape (2^q - 1, rows, words); the product of each set, shape (2^q - 1, words),
            where set S, a bit mask, is at S - 1; the XOR over all sets of mask AND product, shape (rows, words).

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        request = CorrelationRequest("and", rows, words, selectors)
        masks = self._expansion.masks(request)
        results = self._results(request).reshape(-1, words)
        subsets = _products(selectors)
        products = np.empty(((1 << selectors) - 1, words), dtype=np.int64)
        products[[(1 << j) - 1 for j in range(selectors)]] = masks[-selectors:]
        products[[subset - 1 for subset in subsets]] = results[: len(subsets)]
        return masks[:-selectors].reshape(len(products), rows, words), products, results[len(subsets) :]

    def chain(self, fan: int, words: int) -> Correlations:
        """Return the shares of a "chain" request: for each nonempty subset of its masks its product, shape (words,).

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        request = CorrelationRequest("chain", fan, words)
        shares = {1 << bit: mask for bit, mask in enumerate(self._expansion.masks(request))}
        results = self._results(request).reshape(-1, words)
        return shares | dict(zip(_products(fan + 1), results, strict=True))

    def integers(self, bits: int, words: int) -> tuple[Words, RingVector]:
        """Return the shares of an "integer" request: digits, shape (bits, words), and values, shape (64 * words,).

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        request = CorrelationRequest("integer", bits, words)
        return self._expansion.masks(request), self._results(request)

    def norms(self, digits: int, shift: int, words: int) -> tuple[RingVector, NormMasks]:
        """Return the shares of a "norm" request: the masks themselves, shape (64 * words,), and the rest.

        Raises:
            ProtocolError: the dealer sent too few corrections.
        """
        request = CorrelationRequest("norm", digits, words, shift=shift)
        blocks = _in_blocks(self._expansion.masks(request), digits)
        results = self._results(request)
        dealt = _block_products(request) * words
        products = np.empty(((1 << BLOCK_DIGITS) - 1, blocks.shape[1] // words, words), dtype=np.int64)
        products[[(1 << bit) - 1 for bit in range(BLOCK_DIGITS)]] = blocks.reshape(BLOCK_DIGITS, -1, words)
        products[[subset - 1 for subset in _products(BLOCK_DIGITS)]] = results[:dealt].reshape(-1, *products.shape[1:])
        values = results[dealt:].reshape(-1, LANES * words)
        if shift == 0:
            return values[0], NormMasks(products, shifted=values[:1], squares=values[1:])
        return values[0], NormMasks(products, shifted=values[1::2], squares=values[2::2])

    def _results(self, request: CorrelationRequest) -> Words:
        if self._corrected:
            return self._source.corrections(correction_words(request))
        return self._expansion.results(request)


def deal(schedule: Sequence[CorrelationRequest], seeds: Sequence[bytes]) -> Iterator[bytes]:
    """Compute rank 0's corrections, in the order in which it consumes them.

    Args:
        schedule: what the parties will consume.
        seeds: the parties' seeds in rank order, from `batch_seeds`.

    Yields:
        Little-endian int64 words, `CHUNK_BYTES` at a time. Memory: some times the largest request, for any schedule.

    Raises:
        ValueError: fewer than two seeds.
    """
    if len(seeds) < 2:
        raise ValueError(f"correlations are dealt to at least two parties, not {len(seeds)}")
    parties = [_Expansion(seed) for seed in seeds]
    chunk = bytearray()
    for request in schedule:
        octets = _correction(parties, request).astype("<i8", copy=False).reshape(-1).view(np.uint8).data
        while octets:
            taken = CHUNK_BYTES - len(chunk)
            chunk += octets[:taken]
            octets = octets[taken:]
            if len(chunk) == CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()
    if chunk:
        yield bytes(chunk)


def _correction(parties: Sequence[_Expansion], request: CorrelationRequest) -> Words:
    """Compute what the parties' masks make, and take away the results of all parties but rank 0."""
    masks = parties[0].masks(request)
    for party in parties[1:]:
        masks ^= party.masks(request)
    if request.kind == "integer":
        values = integers(masks)
        for party in parties[1:]:
            values -= party.results(request)
        return values
    if request.kind == "norm":
        return _norm_correction(parties, request, masks)
    products = _selections(masks, request) if request.kind == "and" else _subset_products(masks)
    for party in parties[1:]:
        products ^= party.results(request).reshape(products.shape)
    return np.ascontiguousarray(products)


def _selections(masks: Words, request: CorrelationRequest) -> Words:
    """Compute the products of two or more selectors, and for each row the XOR of masks AND products; uses masks up."""
    sets = (1 << request.selectors) - 1
    rows = masks[: -request.selectors].reshape(sets, request.fan, request.words)
    products = _subset_products(masks[-request.selectors :])
    known = {1 << j: mask for j, mask in enumerate(masks[-request.selectors :])}
    known |= zip(_products(request.selectors), products, strict=True)
    for subset in range(1, sets + 1):
        rows[subset - 1] &= known[subset]
        if subset > 1:
            rows[0] ^= rows[subset - 1]
    return np.concatenate([products, rows[0]]) if len(products) else rows[0]


def _norm_correction(parties: Sequence[_Expansion], request: CorrelationRequest, digits: Words) -> Words:
    """Compute what the masks' digits make, the products first."""
    masks, shift = integers(digits), request.shift
    rows = [masks, masks * masks]
    if shift:
        signed, unsigned = masks >> shift, (masks.view(np.uint64) >> np.uint64(shift)).view(np.int64)
        rows = [masks, signed, signed * signed, unsigned, unsigned * unsigned]
    values = np.concatenate(rows)
    products = _subset_products(_in_blocks(digits, request.fan)).reshape(-1)
    for party in parties[1:]:
        results = party.results(request)
        products ^= results[: products.size]
        values -= results[products.size :]
    return np.concatenate([products, values])


def _in_blocks(digits: Words, count: int) -> Words:
    """Cut the highest of 64 digits into blocks, filled up with zeros: shape (BLOCK_DIGITS, blocks * words)."""
    blocks = -(-count // BLOCK_DIGITS)
    filled = np.zeros((blocks * BLOCK_DIGITS, digits.shape[1]), dtype=np.int64)
    filled[:count] = digits[LANES - count :]
    return filled.reshape(blocks, BLOCK_DIGITS, -1).swapaxes(0, 1).reshape(BLOCK_DIGITS, -1)


def _subset_products(masks: Words) -> Words:
    """AND together each subset of two or more masks, in the order of `_products`."""
    subsets = _products(len(masks))
    products = np.empty((len(subsets), masks.shape[1]), dtype=np.int64)
    known = {1 << bit: mask for bit, mask in enumerate(masks)}
    for subset, product in zip(subsets, products, strict=True):
        lowest = subset & -subset
        known[subset] = np.bitwise_and(known[lowest], known[subset ^ lowest], out=product)
    return products


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
