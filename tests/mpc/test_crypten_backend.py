import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from backend_contract import check_backend, contract_schedule
from party_processes import PartyFailed, run_parties
from scipy import stats

from mpcdp.mpc.backend import Backend, CorrelationRequest, CorrelationSource, Mesh, Words
from mpcdp.mpc.crypten_backend import CryptenBackend
from mpcdp.mpc.crypten_session import crypten_session
from mpcdp.mpc.dealing import deal, lanes
from mpcdp.secret_sharing.shares import NoisedVector, NoiseShare, RingVector, SharedVector

# isort: split
import torch

PARTY_COUNTS = (2, 3, 5)
SIGNIFICANCE = 1e-7


class RecordingMesh:
    """Passes everything on to another mesh and keeps all parties' frames."""

    def __init__(self, mesh: Mesh) -> None:
        self.rank = mesh.rank
        self.size = mesh.size
        self.rounds: list[list[Words]] = []
        self._mesh = mesh

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        received = self._mesh.exchange(operation, payload)
        self.rounds.append([np.frombuffer(bytes(frame), dtype="<i8") for frame in received])
        return received


def share_words(words: Words, party_count: int) -> list[Words]:
    """Split test data into XOR shares."""
    generator = np.random.default_rng(7)
    shares = [generator.integers(-(2**63), 2**63, words.shape) for _ in range(party_count - 1)]
    return [*shares, np.bitwise_xor.reduce([words, *shares])]


def xor(shares: Sequence[Words]) -> Words:
    total: Words = np.bitwise_xor.reduce(list(shares))
    return total


def uniform_bytes_p_value(words: Words) -> float:
    """Chi-square test that the bytes of words are uniform."""
    return float(stats.chisquare(np.bincount(np.ascontiguousarray(words).view(np.uint8).ravel(), minlength=256)).pvalue)


def patterns() -> tuple[Words, Words]:
    """All pairs of all-zero, all-one, alternating, single-bit and random words."""
    generator = np.random.default_rng(11)
    words = np.array([0, -1, 0x5555555555555555, -(2**63), 1, *generator.integers(-(2**63), 2**63, 11)])
    return np.repeat(words, len(words)), np.tile(words, len(words))


# -- the contract ---------------------------------------------------------------------------------------------------


def contract_job(mesh: Mesh, correlations: CorrelationSource) -> None:
    with crypten_session(mesh, correlations) as session:
        backend: Backend = CryptenBackend(session)
        check_backend(backend)


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
def test_contract(party_count: int) -> None:
    run_parties(party_count, contract_job, schedule=contract_schedule())


# -- AND ------------------------------------------------------------------------------------------------------------


def and_job(mesh: Mesh, correlations: CorrelationSource, x: list[Words], y: list[Words]) -> tuple[Words, list[Words]]:
    recorder = RecordingMesh(mesh)
    with crypten_session(recorder, correlations) as session:
        product = CryptenBackend(session).and_words(x[mesh.rank], y[mesh.rank])
    assert len(recorder.rounds) == 1
    return product, recorder.rounds[0]


def and_parties(party_count: int, x: Words, y: Words, **options: Any) -> tuple[Words, list[Words]]:
    """Run one AND of shared words; return the product and the frames of all parties."""
    shares = share_words(x, party_count), share_words(y, party_count)
    results = run_parties(party_count, and_job, *shares, schedule=[CorrelationRequest("and", x.size)], **options)
    return xor([product for product, _ in results]), results[0][1]


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
def test_and_truth_table(party_count: int) -> None:
    x, y = patterns()
    product, _ = and_parties(party_count, x, y)
    assert np.array_equal(product, x & y)


@pytest.mark.parametrize("pattern", [0, -1, None])
def test_openings_of_an_and_are_uniform_and_masked(pattern: int | None) -> None:
    generator = np.random.default_rng(3)
    x = generator.integers(-(2**63), 2**63, 4096) if pattern is None else np.full(4096, pattern, dtype=np.int64)
    product, frames = and_parties(3, x, x)
    assert np.array_equal(product, x)
    opened = xor(frames)
    assert opened.size == 2 * x.size
    left_mask, right_mask = opened[: x.size] ^ x, opened[x.size :] ^ x
    for words in (*frames, opened, left_mask, right_mask, left_mask ^ right_mask):
        assert uniform_bytes_p_value(words) > SIGNIFICANCE
    assert pattern is None or uniform_bytes_p_value(x) < SIGNIFICANCE  # the test can fail


def deal_to_swapped_parties(schedule: Sequence[CorrelationRequest], seeds: Sequence[bytes]) -> Iterator[bytes]:
    return deal(schedule, (seeds[1], seeds[0], *seeds[2:]))


def deal_one_wrong_bit(schedule: Sequence[CorrelationRequest], seeds: Sequence[bytes]) -> Iterator[bytes]:
    data = bytearray(b"".join(deal(schedule, seeds)))
    data[17] ^= 4
    yield bytes(data)


def test_wrong_correlations_spoil_the_truth_table() -> None:
    x, y = patterns()
    product, _ = and_parties(2, x, y, dealer=deal_one_wrong_bit)
    assert (product ^ x & y).tolist() == [0, 0, 4 << 8, *[0] * (x.size - 3)]
    product, _ = and_parties(2, x, y, dealer=deal_to_swapped_parties)
    assert np.count_nonzero(product ^ x & y) > 0.9 * x.size


def test_missing_and_left_over_correlations_are_errors() -> None:
    x, _ = patterns()
    shares = share_words(x, 2)
    for words, problem in ((x.size - 1, "8 bytes of corrections less"), (x.size + 1, "more corrections")):
        with pytest.raises(PartyFailed, match=f"ProtocolError: the dealer sent {problem} than"):
            run_parties(2, and_job, shares, shares, schedule=[CorrelationRequest("and", words)])


# -- conversion -----------------------------------------------------------------------------------------------------


def convert_job(
    mesh: Mesh, correlations: CorrelationSource, bits: list[Words]
) -> tuple[RingVector, list[Words], dict[str, float]]:
    recorder = RecordingMesh(mesh)
    with crypten_session(recorder, correlations) as session:
        values = CryptenBackend(session).bits_to_arithmetic(bits[mesh.rank])
        statistics = session.communicator.get_communication_stats()
    return values, recorder.rounds[0], statistics


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
def test_conversion_of_bits_keeps_lanes(party_count: int) -> None:
    words = np.stack([patterns()[0], patterns()[1]])
    schedule = [CorrelationRequest("bit", words.size)]
    results = run_parties(party_count, convert_job, share_words(words, party_count), schedule=schedule)
    values = sum(result[0] for result in results)
    assert values.tolist() == lanes(words).tolist()
    assert uniform_bytes_p_value(xor(results[0][1])) > SIGNIFICANCE
    for result in results:
        assert uniform_bytes_p_value(result[0]) > SIGNIFICANCE
        assert result[2]["rounds"] == 1
        assert result[2]["bytes"] == 8 * words.size * (party_count - 1)  # packed


def test_wrong_corrections_spoil_the_conversion() -> None:
    words = patterns()[0][None, :]
    schedule = [CorrelationRequest("bit", words.size)]
    results = run_parties(2, convert_job, share_words(words, 2), schedule=schedule, dealer=deal_one_wrong_bit)
    values = sum(result[0] for result in results)
    wrong = np.flatnonzero(values != lanes(words))
    assert wrong.tolist() == [2]


# -- random words, reveal -------------------------------------------------------------------------------------------


def random_job(mesh: Mesh, correlations: CorrelationSource) -> list[Words]:
    with crypten_session(mesh, None) as session:
        backend = CryptenBackend(session)
        draws = [backend.random_words((2048,)), backend.random_words((64, 32)).reshape(-1)]
        assert backend.random_words(()).shape == ()
        assert session.communicator.get_communication_stats()["rounds"] == 0
    return draws


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
def test_random_words_are_uniform_and_each_partys_own(party_count: int) -> None:
    results = run_parties(party_count, random_job)
    draws = [words for result in results for words in result]
    assert np.unique(np.concatenate(draws)).size == 2048 * 2 * party_count
    for words in (*draws, xor(draws[::2]), xor(draws[1::2]), xor(draws)):
        assert uniform_bytes_p_value(words) > SIGNIFICANCE


def reveal_job(mesh: Mesh, correlations: CorrelationSource, shares: list[RingVector]) -> tuple[RingVector, Any]:
    with crypten_session(mesh, None) as session:
        backend = CryptenBackend(session)
        revealed = backend.reveal(NoisedVector(shares[mesh.rank]))
        return revealed, session.communicator.get_communication_stats()


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
def test_reveal_is_exact_over_the_whole_ring(party_count: int) -> None:
    values = np.array([0, 1, -1, 65_535, -65_536, -1_000_003, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
    generator = np.random.default_rng(5)
    shares = [generator.integers(-(2**63), 2**63, values.shape) for _ in range(party_count - 1)]
    shares.append(values - np.sum(shares, axis=0))
    for revealed, statistics in run_parties(party_count, reveal_job, shares):
        assert revealed.dtype == np.int64
        assert revealed.tolist() == values.tolist()
        assert (statistics["rounds"], statistics["bytes"]) == (1, 8 * values.size * (party_count - 1))


class SilentMesh:
    """A mesh that must not be used."""

    rank = 0
    size = 2

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        raise AssertionError(f"{operation} was sent")


@pytest.mark.parametrize("kind", [SharedVector, NoiseShare, np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_only_a_noised_vector_is_revealed(kind: Callable[[RingVector], Any]) -> None:
    with crypten_session(SilentMesh(), None) as session, pytest.raises(TypeError, match="only a NoisedVector"):
        CryptenBackend(session).reveal(kind(np.arange(3)))


def test_shapes_are_checked_before_anything_is_sent() -> None:
    with crypten_session(SilentMesh(), None) as session:
        backend = CryptenBackend(session)
        with pytest.raises(ValueError, match="equal shapes"):
            backend.and_words(np.zeros(3, dtype=np.int64), np.zeros(1, dtype=np.int64))
        with pytest.raises(ValueError, match=r"shape \(n, w\)"):
            backend.bits_to_arithmetic(np.zeros(3, dtype=np.int64))


def diverging_job(mesh: Mesh, correlations: CorrelationSource) -> None:
    with crypten_session(mesh, None) as session:
        CryptenBackend(session).reveal(NoisedVector(np.zeros(3 + (mesh.rank == 2), dtype=np.int64)))


def test_a_party_with_another_dimension_is_named() -> None:
    with pytest.raises(PartyFailed, match=r"ProtocolError: compute party 2 sent 32 bytes .* instead of 24"):
        run_parties(3, diverging_job)


# -- the harness ----------------------------------------------------------------------------------------------------


def dying_job(mesh: Mesh, correlations: CorrelationSource) -> None:
    if mesh.rank == 1:
        os._exit(3)
    mesh.exchange("wait", b"")


def stuck_job(mesh: Mesh, correlations: CorrelationSource) -> None:
    time.sleep(60)


def test_harness_reports_dead_and_late_parties() -> None:
    start = time.monotonic()
    with pytest.raises(PartyFailed, match="party 1: its process died"):
        run_parties(2, dying_job)
    with pytest.raises(PartyFailed, match="PeerUnavailable: compute party 1"):
        run_parties(2, dying_job)
    with pytest.raises(PartyFailed, match="party 0: not done in time"):
        run_parties(2, stuck_job, seconds=0.5)
    assert time.monotonic() - start < 15
