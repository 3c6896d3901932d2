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

from mpcdp.errors import ProtocolError
from mpcdp.mpc.backend import CorrelationRequest, Words
from mpcdp.mpc.dealing import (
    CHUNK_BYTES,
    DealtCorrelations,
    ReceivedCorrelations,
    batch_seeds,
    correction_words,
    deal,
    lanes,
    schedule_digest,
)

AND, BIT = "and", "bit"

requests = st.builds(CorrelationRequest, st.sampled_from(("and", "bit")), st.integers(0, 40))
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
        if request.kind == AND:
            a, b, c = map(xor, zip(*(party.triples(request.words) for party in dealt), strict=True))
            wrong += int(np.count_nonzero(a & b ^ c))
        else:
            packed, ring = zip(*(party.bits(request.words) for party in dealt), strict=True)
            wrong += int(np.count_nonzero(lanes(xor(packed)) - np.sum(ring, axis=0)))
    return wrong


@given(schedule=schedules, party_count=party_counts, piece=st.integers(1, 1000))
@settings(deadline=None, max_examples=60)
def test_dealt_equations_hold_however_the_stream_is_cut(
    schedule: list[CorrelationRequest], party_count: int, piece: int
) -> None:
    seeds = seeds_for(party_count)
    assert violations(schedule, parties(schedule, seeds, piece=piece)) == 0


@pytest.mark.parametrize("kind", ["and", "bit"])
def test_equations_hold_across_the_dealers_blocks(kind: str) -> None:
    words = CHUNK_BYTES // 8 + 3 if kind == AND else CHUNK_BYTES // 512 + 3
    schedule = [CorrelationRequest(kind, words), CorrelationRequest(kind, 5)]  # type: ignore[arg-type]
    assert violations(schedule, parties(schedule, seeds_for(3))) == 0


@pytest.mark.parametrize("kind", ["and", "bit"])
def test_wrong_seeds_and_corrupted_corrections_break_the_equations(kind: str) -> None:
    schedule = [CorrelationRequest(kind, 20)]  # type: ignore[arg-type]
    seeds = seeds_for(3)
    good = b"".join(deal(schedule, seeds))
    flipped = bytes([good[0] ^ 1]) + good[1:]
    assert violations(schedule, parties(schedule, seeds, corrections=flipped)) == 1
    swapped = b"".join(deal(schedule, (seeds[1], seeds[0], seeds[2])))
    assert violations(schedule, parties(schedule, seeds, corrections=swapped)) > 10


@given(schedule=schedules, party_count=party_counts)
@settings(deadline=None, max_examples=40)
def test_corrections_have_the_announced_size(schedule: list[CorrelationRequest], party_count: int) -> None:
    chunks = list(deal(schedule, seeds_for(party_count)))
    assert sum(map(len, chunks)) == 8 * sum(map(correction_words, schedule))


def test_dealing_a_long_schedule_takes_little_memory() -> None:
    schedule = [CorrelationRequest("and", 1000)] * 4000 + [CorrelationRequest("bit", 70_000)]  # 32 + 36 MB
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
    assert peak < 12 * CHUNK_BYTES


def test_dealing_starts_at_once_whatever_the_size() -> None:
    schedule = [CorrelationRequest("and", 2**40)]
    assert [len(chunk) for chunk in islice(deal(schedule, seeds_for(2)), 2)] == [CHUNK_BYTES, CHUNK_BYTES]


def test_small_requests_of_one_kind_share_chunks() -> None:
    assert len(list(deal([CorrelationRequest("and", 3)] * 1000, seeds_for(2)))) == 1


def test_streams_of_a_party_are_independent() -> None:
    source = ReceivedCorrelations(seeds_for(2)[1], iter(()))
    party = DealtCorrelations(source, rank=1)
    a, b, c = party.triples(64)
    packed, ring = party.bits(64)
    words = np.concatenate([a, b, c, packed, ring])
    assert len(np.unique(words)) == len(words)


def test_format_is_frozen() -> None:
    """A dealer and parties of different releases must still fit; change the version strings if this changes."""
    schedule = [CorrelationRequest("and", 3), CorrelationRequest("bit", 2), CorrelationRequest("and", 1)]
    seeds = seeds_for(3)
    corrections = b"".join(deal(schedule, seeds))
    assert hashlib.sha256(b"".join(seeds)).hexdigest()[:16] == "bb97ce4187f394e3"
    assert hashlib.sha256(corrections).hexdigest()[:16] == "e34f992beb33617a"
    assert schedule_digest(schedule).hex()[:16] == "83ea499c7eca58ce"


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
    schedule = [CorrelationRequest("and", 3), CorrelationRequest("bit", 2)]
    others: list[list[CorrelationRequest]] = [
        [],
        schedule[:1],
        schedule[::-1],
        [CorrelationRequest("and", 2), CorrelationRequest("bit", 2)],
        [CorrelationRequest("bit", 3), CorrelationRequest("bit", 2)],
        [CorrelationRequest("and", 1), CorrelationRequest("and", 2), CorrelationRequest("bit", 2)],
    ]
    assert len({schedule_digest(other) for other in [schedule, *others]}) == 1 + len(others)
    assert schedule_digest(schedule) == schedule_digest(tuple(schedule))


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


@given(words=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5))
def test_lanes_are_the_bits_least_significant_first(words: list[int]) -> None:
    expected = [(word >> lane) & 1 for word in words for lane in range(64)]
    assert lanes(np.array(words, dtype=np.int64)).tolist() == expected


def test_dealer_needs_no_engine() -> None:
    code = "import sys, mpcdp.mpc.dealing; sys.exit(bool({'torch', 'crypten'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
