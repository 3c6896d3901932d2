import hashlib
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_parties import block_products

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import CorrelationRequest, NormMasks, Words
from mpcdp.mpc.bit_slicing import integers
from mpcdp.mpc.dealing import (
    CHUNK_BYTES,
    DealtCorrelations,
    ReceivedCorrelations,
    batch_seeds,
    correction_words,
    deal,
    schedule_digest,
)
from mpcdp.secret_sharing.shares import RingVector

KINDS = ("and", "chain", "integer", "norm")

requests = st.one_of(
    st.builds(CorrelationRequest, st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 40)),
    st.builds(CorrelationRequest, st.just("and"), st.integers(1, 4), st.integers(1, 20), st.integers(2, 5)),
    st.builds(CorrelationRequest, st.just("norm"), st.integers(1, 64), st.integers(1, 5), shift=st.integers(0, 63)),
)
schedules = st.lists(requests, max_size=8)
party_counts = st.integers(2, 5)


def seeds_for(party_count: int, *, secret: bytes = b"s" * 32) -> tuple[bytes, ...]:
    return batch_seeds(secret, [bytes([rank]) * 32 for rank in range(party_count)], b"ref", "noise")


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def parties(
    schedule: Sequence[CorrelationRequest],
    seeds: Sequence[bytes],
    *,
    corrections: bytes | None = None,
    piece: int = CHUNK_BYTES,
) -> list[DealtCorrelations]:
    data = b"".join(deal(schedule, seeds)) if corrections is None else corrections
    return [
        DealtCorrelations(ReceivedCorrelations(seed, pieces(data, piece) if rank == 0 else iter(())), rank=rank)
        for rank, seed in enumerate(seeds)
    ]


def violations(schedule: Sequence[CorrelationRequest], dealt: Sequence[DealtCorrelations]) -> int:
    """Consume a schedule and count the words and lanes where the dealt equation does not hold."""

    def xor(shares: Sequence[Words]) -> Words:
        total: Words = np.bitwise_xor.reduce(list(shares))
        return total

    wrong = 0
    for request in schedule:
        if request.selectors > 1:
            selection = [party.selection(request.selectors, request.fan, request.words) for party in dealt]
            masks, products, sums = map(xor, zip(*selection, strict=True))
            sets = range(1, 1 << request.selectors)
            for subset in sets:
                factors = [products[(1 << j) - 1] for j in range(request.selectors) if subset >> j & 1]
                wrong += int(np.count_nonzero(np.bitwise_and.reduce(factors) ^ products[subset - 1]))
            wrong += int(np.count_nonzero(xor([masks[each - 1] & products[each - 1] for each in sets]) ^ sums))
        elif request.kind == "and":
            masks, products = map(
                xor, zip(*(party.products(request.fan, request.words) for party in dealt), strict=True)
            )
            wrong += int(np.count_nonzero(masks[:-1] & masks[-1] ^ products))
        elif request.kind == "chain":
            shares = [party.chain(request.fan, request.words) for party in dealt]
            subsets = {subset: xor([share[subset] for share in shares]) for subset in range(1, 2 << request.fan)}
            assert [set(share) for share in shares] == [set(subsets)] * len(dealt)
            for subset, product in subsets.items():
                factors = [subsets[1 << bit] for bit in range(request.fan + 1) if subset >> bit & 1]
                wrong += int(np.count_nonzero(np.bitwise_and.reduce(factors) ^ product))
        elif request.kind == "norm":
            wrong += norm_violations(
                request, [party.norms(request.fan, request.shift, request.words) for party in dealt]
            )
        else:
            digits, values = zip(*(party.integers(request.fan, request.words) for party in dealt), strict=True)
            wrong += int(np.count_nonzero(integers(xor(digits)) - np.sum(values, axis=0)))
    return wrong


def norm_violations(request: CorrelationRequest, dealt: Sequence[tuple[RingVector, NormMasks]]) -> int:
    """Count the words and lanes where a "norm" request's equations do not hold."""
    masks = np.sum([shares for shares, _ in dealt], axis=0)
    readings = [masks] if request.shift == 0 else [masks, masks.view(np.uint64)]
    shifted = np.stack([(reading >> reading.dtype.type(request.shift)).view(np.int64) for reading in readings])
    products = np.bitwise_xor.reduce([norm.products for _, norm in dealt])
    wrong = np.count_nonzero(products ^ block_products(masks, request.fan))
    wrong += np.count_nonzero(np.sum([norm.shifted for _, norm in dealt], axis=0) - shifted)
    return int(wrong + np.count_nonzero(np.sum([norm.squares for _, norm in dealt], axis=0) - shifted * shifted))


@given(schedule=schedules, party_count=party_counts, piece=st.integers(1, 1000))
@settings(max_examples=60)
def test_dealt_equations_hold_however_the_stream_is_cut(
    schedule: list[CorrelationRequest], party_count: int, piece: int
) -> None:
    seeds = seeds_for(party_count)
    assert violations(schedule, parties(schedule, seeds, piece=piece)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_equations_hold_across_the_dealers_chunks(kind: str) -> None:
    words = 3 * CHUNK_BYTES // 8 // (139 * (kind == "norm") or 2) + 3  # in each of them more than a chunk
    schedule = [CorrelationRequest(kind, 2, words), CorrelationRequest(kind, 1, 5)]  # type: ignore[arg-type]
    assert violations(schedule, parties(schedule, seeds_for(3))) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_seeds_and_corrupted_corrections_break_the_equations(kind: str) -> None:
    schedule = [CorrelationRequest(kind, 2, 20)]  # type: ignore[arg-type]
    seeds = seeds_for(3)
    good = b"".join(deal(schedule, seeds))
    flipped = bytes([good[0] ^ 1]) + good[1:]
    assert violations(schedule, parties(schedule, seeds, corrections=flipped)) == 1
    swapped = b"".join(deal(schedule, (seeds[1], seeds[0], seeds[2])))
    assert violations(schedule, parties(schedule, seeds, corrections=swapped)) > 10


@given(schedule=schedules, party_count=party_counts)
@settings(max_examples=40)
def test_corrections_have_the_announced_size(schedule: list[CorrelationRequest], party_count: int) -> None:
    chunks = list(deal(schedule, seeds_for(party_count)))
    assert sum(map(len, chunks)) == 8 * sum(map(correction_words, schedule))


def test_dealing_a_long_schedule_takes_little_memory() -> None:
    schedule = [CorrelationRequest("and", 9, 1000)] * 400 + [CorrelationRequest("chain", 2, 3000)] * 400  # 29 + 38 MB
    seeds = seeds_for(2)
    tracemalloc.start()
    try:
        source = ReceivedCorrelations(seeds[0], deal(schedule, seeds))
        for request in schedule:
            source.corrections(min(correction_words(request), 1000))
        largest = max(map(len, deal(schedule, seeds)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert largest == CHUNK_BYTES
    assert peak < 8 * CHUNK_BYTES


def test_dealing_starts_at_once_however_long_the_schedule() -> None:
    schedule = [CorrelationRequest("and", 100, 2000)] * 10**6
    assert [len(chunk) for chunk in islice(deal(schedule, seeds_for(2)), 2)] == [CHUNK_BYTES, CHUNK_BYTES]


def test_small_requests_share_chunks() -> None:
    assert (
        len(list(deal([CorrelationRequest("and", 1, 3), CorrelationRequest("chain", 1, 3)] * 500, seeds_for(2)))) == 1
    )


def test_streams_of_a_party_are_independent() -> None:
    source = ReceivedCorrelations(seeds_for(2)[1], iter(()))
    party = DealtCorrelations(source, rank=1)
    masks, norm = party.norms(64, 5, 64)
    arrays = [
        *party.products(2, 64),
        *party.selection(3, 2, 64),
        *party.chain(2, 64).values(),
        *party.integers(3, 64),
        *(masks, norm.products, norm.shifted[1], *norm.squares),
    ]
    words = np.concatenate([array.reshape(-1) for array in arrays])
    assert words.size == (3 + 2 + (7 * 2 + 7 + 2) + 7 + 3 + 64 + 15 * 16 + 4 * 64) * 64
    assert np.unique(words).size == words.size


def test_format_is_frozen() -> None:
    """A dealer and parties of different releases must still fit; change the version strings if this changes."""
    schedule = [CorrelationRequest("and", 3, 2), CorrelationRequest("chain", 2, 3), CorrelationRequest("integer", 5, 2)]
    seeds = seeds_for(3)
    selection = b"".join(deal([CorrelationRequest("and", 2, 3, 4)], seeds))
    assert hashlib.sha256(selection).hexdigest()[:16] == "c34df2186c1830ef"
    corrections = b"".join(deal(schedule, seeds))
    norms = [CorrelationRequest("norm", 30, 2, shift=4), CorrelationRequest("norm", 64, 1)]
    assert hashlib.sha256(b"".join(seeds)).hexdigest()[:16] == "bb97ce4187f394e3"
    assert hashlib.sha256(corrections).hexdigest()[:16] == "76c03c095b568d32"
    assert hashlib.sha256(b"".join(deal(norms, seeds))).hexdigest()[:16] == "b4dda24a18c6a064"
    assert schedule_digest(schedule + norms).hex()[:16] == "5a58ac55d6a7fa36"


def test_seeds_are_fresh_if_anything_is() -> None:
    nonces = [bytes([rank]) * 32 for rank in range(3)]

    def variant(
        secret: bytes = b"s" * 32, nonces: Sequence[bytes] = nonces, ref: bytes = b"ref", batch: str = "noise"
    ) -> set[bytes]:
        return set(batch_seeds(secret, nonces, ref, batch))

    batches = [
        variant(),
        variant(secret=b"t" * 32),
        variant(ref=b"re"),
        variant(ref=b"refn", batch="oise"),
        variant(batch="noise2"),
        variant(nonces=nonces[::-1]),
        *(variant(nonces=[*nonces[:rank], b"x" * 32, *nonces[rank + 1 :]]) for rank in range(3)),
        variant(nonces=[*nonces, nonces[0]]),
    ]
    assert len(set.union(*batches)) == sum(map(len, batches)) == 3 * 9 + 4
    assert variant() == batches[0]


def test_seeds_need_whole_nonces_of_two_parties() -> None:
    with pytest.raises(ValueError, match="at least two parties"):
        batch_seeds(b"s" * 32, [b"n" * 32], b"ref", "noise")
    with pytest.raises(ValueError, match="compute party 1 has 32 bytes, not 31"):
        batch_seeds(b"s" * 32, [b"n" * 32, b"n" * 31], b"ref", "noise")
    with pytest.raises(ValueError, match="at least two parties"):
        next(deal([], [b"s" * 32]))


def test_schedule_digest_sees_every_difference() -> None:
    schedule = [CorrelationRequest("and", 2, 3), CorrelationRequest("integer", 4, 2)]
    others: list[list[CorrelationRequest]] = [
        [],
        schedule[:1],
        schedule[::-1],
        [CorrelationRequest("and", 2, 2), schedule[1]],
        [CorrelationRequest("and", 1, 3), schedule[1]],
        [CorrelationRequest("chain", 2, 3), schedule[1]],
        [*schedule, CorrelationRequest("norm", 4, 2, shift=1)],
        [*schedule, CorrelationRequest("norm", 4, 2)],
        [CorrelationRequest("and", 2, 3, 2), schedule[1]],
        [CorrelationRequest("and", 2, 1), CorrelationRequest("and", 2, 2), schedule[1]],
    ]
    assert len({schedule_digest(other) for other in [schedule, *others]}) == 1 + len(others)
    assert schedule_digest(schedule) == schedule_digest(tuple(schedule))


@pytest.mark.parametrize(
    ("kind", "fan", "words"), [("and", 0, 1), ("and", 1, 0), ("chain", 5, 1), ("integer", 64, 1), ("norm", 65, 1)]
)
def test_requests_are_checked(kind: str, fan: int, words: int) -> None:
    with pytest.raises(ValueError, match=f"correlations '{kind}' have a fan of 1 to"):
        CorrelationRequest(kind, fan, words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"correlations '{kind}' have no shift of 64"):
        CorrelationRequest(kind, 1, 1, shift=64)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "selectors", "most"), [("and", 0, 8), ("and", 9, 8), ("chain", 2, 1)])
def test_selectors_are_checked(kind: str, selectors: int, most: int) -> None:
    with pytest.raises(ValueError, match=f"correlations '{kind}' have 1 to {most} selectors"):
        CorrelationRequest(kind, 1, 1, selectors)  # type: ignore[arg-type]


@given(data=st.binary(max_size=400).map(lambda data: data[: len(data) // 8 * 8]), piece=st.integers(1, 64))
def test_received_words_do_not_depend_on_the_chunks(data: bytes, piece: int) -> None:
    source = ReceivedCorrelations(b"s" * 32, iter([b"", *pieces(data, piece), b""]))
    words = [source.corrections(count) for count in (len(data) // 16, len(data) // 8 - len(data) // 16)]
    source.finish()
    assert np.concatenate(words).tobytes() == data
    assert all(piece.flags.writeable for piece in words)


def test_short_and_long_corrections_are_the_dealers_fault() -> None:
    with pytest.raises(ProtocolError, match="the dealer sent 3 bytes of corrections less"):
        ReceivedCorrelations(b"s" * 32, iter([bytes(13)])).corrections(2)
    for chunks in ([bytes(17)], [bytes(16), b"", b"x"]):
        source = ReceivedCorrelations(b"s" * 32, iter(chunks))
        source.corrections(2)
        with pytest.raises(ProtocolError, match="the dealer sent more corrections"):
            source.finish()


def test_received_correlations_print_redacted() -> None:
    assert repr(ReceivedCorrelations(b"s" * 32, iter(()))) == "ReceivedCorrelations(<redacted>)"


def test_dealer_needs_no_engine() -> None:
    code = "import sys, mpcdp.mpc.dealing; sys.exit(bool({'torch', 'crypten'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
