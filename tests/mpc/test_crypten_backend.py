import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from backend_contract import check_backend, contract_schedule
from numpy.typing import NDArray
from party_processes import PartyFailed, run_parties
from scipy import stats

from mpcdp.mpc.backend import Backend, CorrelationRequest, CorrelationSource, Mesh, Words
from mpcdp.mpc.bit_slicing import integers
from mpcdp.mpc.crypten_backend import CryptenBackend
from mpcdp.mpc.crypten_session import crypten_session
from mpcdp.mpc.dealing import DealtCorrelations, ReceivedCorrelations, correction_words, deal
from mpcdp.secret_sharing.shares import NoisedVector, NoiseShare, RingVector, SharedVector

# isort: split
import torch

PARTY_COUNTS = (2, 3, pytest.param(5, marks=pytest.mark.slow))  # five keep the whole contract by default too
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


@pytest.mark.parametrize("party_count", [2, 3, 5])
def test_contract(party_count: int) -> None:
    run_parties(party_count, contract_job, schedule=contract_schedule())


# -- AND ------------------------------------------------------------------------------------------------------------


def and_job(mesh: Mesh, correlations: CorrelationSource, x: list[Words], y: list[Words]) -> tuple[Words, list[Words]]:
    recorder = RecordingMesh(mesh)
    with crypten_session(recorder, correlations) as session:
        product = CryptenBackend(session).and_rows(x[mesh.rank], y[mesh.rank])
    assert len(recorder.rounds) == 1
    return product, recorder.rounds[0]


def and_parties(party_count: int, x: Words, y: Words, **options: Any) -> tuple[Words, list[Words]]:
    """Run one AND of shared rows with a shared selector; return the products and the frames of all parties."""
    shares = share_words(x, party_count), share_words(y, party_count)
    schedule = [CorrelationRequest("and", len(x), y.size)]
    results = run_parties(party_count, and_job, *shares, schedule=schedule, **options)
    return xor([product for product, _ in results]), results[0][1]


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
def test_and_truth_table(party_count: int) -> None:
    x, y = patterns()
    rows = np.stack([x, ~x, y])
    product, _ = and_parties(party_count, rows, y)
    assert np.array_equal(product, rows & y)


@pytest.mark.parametrize("pattern", [0, -1, None])
def test_openings_of_an_and_are_uniform_and_masked(pattern: int | None) -> None:
    generator = np.random.default_rng(3)
    x = generator.integers(-(2**63), 2**63, 4096) if pattern is None else np.full(4096, pattern, dtype=np.int64)
    product, frames = and_parties(3, np.stack([x, x]), x)
    assert np.array_equal(product, [x, x])
    opened = xor(frames)
    assert opened.size == 3 * x.size  # the selector once
    masks = opened.reshape(3, -1) ^ x
    pairs = (masks[0] ^ masks[1], masks[0] ^ masks[2], masks[1] ^ masks[2], masks[0] ^ masks[1] ^ masks[2])
    for words in (*frames, opened, *masks, *pairs):
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
    product, _ = and_parties(2, x[np.newaxis], y, dealer=deal_one_wrong_bit)
    assert (product ^ x & y).tolist() == [[0, 0, 4 << 8, *[0] * (x.size - 3)]]
    product, _ = and_parties(2, x[np.newaxis], y, dealer=deal_to_swapped_parties)
    assert np.count_nonzero(product ^ x & y) > 0.9 * x.size


def test_missing_and_left_over_correlations_are_errors() -> None:
    x, y = patterns()
    shares = share_words(x[np.newaxis], 2), share_words(y, 2)
    for words, problem in ((x.size - 1, "8 bytes of corrections less"), (x.size + 1, "more corrections")):
        with pytest.raises(PartyFailed, match=f"ProtocolError: the dealer sent {problem} than"):
            run_parties(2, and_job, *shares, schedule=[CorrelationRequest("and", 1, words)])


# -- selection ------------------------------------------------------------------------------------------------------


def select_job(
    mesh: Mesh, correlations: CorrelationSource, table: list[Words], selectors: list[Words]
) -> tuple[Words, list[list[Words]]]:
    recorder = RecordingMesh(mesh)
    with crypten_session(recorder, correlations) as session:
        result = CryptenBackend(session).select(table[mesh.rank], selectors[mesh.rank])
    return result, recorder.rounds


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
@pytest.mark.parametrize("pattern", [0, -1, None])
def test_a_selection_is_right_and_its_openings_are_uniform(pattern: int | None, party_count: int) -> None:
    generator = np.random.default_rng(17)
    shape = (8, 2, 2048)
    table = generator.integers(-(2**63), 2**63, shape) if pattern is None else np.full(shape, pattern, dtype=np.int64)
    selectors = table[:3, 0]
    schedule = [CorrelationRequest("and", 2, 2048, 3)]
    results = run_parties(
        party_count, select_job, share_words(table, party_count), share_words(selectors, party_count), schedule=schedule
    )
    expected = np.zeros(shape[1:], dtype=np.int64)
    for subset, row in enumerate(table):
        product = row.copy()
        for j in range(3):
            product &= selectors[j] if subset >> j & 1 else -1
        expected ^= product
    assert np.array_equal(xor([result for result, _ in results]), expected)
    rounds = results[0][1]
    assert [xor(frames).size for frames in rounds] == [3 * 2048, 7 * 2 * 2048]
    for frames in rounds:
        opened = xor(frames).reshape(-1, 2048)
        for words in (*frames, *opened, *(opened[1:] ^ opened[:-1])):
            assert uniform_bytes_p_value(words) > SIGNIFICANCE
    for result, _ in results:
        assert uniform_bytes_p_value(result) > SIGNIFICANCE
    assert pattern is None or uniform_bytes_p_value(table) < SIGNIFICANCE  # the test can fail


# -- fresh random operands ------------------------------------------------------------------------------------------


class Transcript:
    """What is opened, and what nobody but all parties together could compute: the masks and the coins."""

    def __init__(self, shares: list[list[Words]], frames: list[list[Words]], coins: Words) -> None:
        self.results = [xor(each) for each in zip(*shares, strict=True)]
        self.shares = [words for each in shares for words in each]
        self.frames = frames
        self.opened = [xor(each) for each in frames]
        self.coins = coins


class RecordedCoins:
    """Keeps the common coins that a session draws."""

    def __init__(self, coins: Any) -> None:
        self._coins = coins
        self.drawn: list[Words] = []

    def words(self, count: int) -> Words:
        self.drawn.append(self._coins.words(count))
        return self.drawn[-1].copy()


FRESH_WORDS = 4096


def coefficients(rows: Words) -> Words:
    """Make two polynomials in two bits, y_0 and y_1 where all rows are 1, of two rows of words."""
    (first, second), zero = rows, np.zeros_like(rows[0])
    return np.array([[zero, zero], [first, zero], [zero, second], [first ^ second] * 2])


def fresh_job(
    mesh: Mesh, correlations: CorrelationSource, gate: str, rows: list[Words]
) -> tuple[list[Words], list[list[Words]], Words]:
    recorder = RecordingMesh(mesh)
    with crypten_session(recorder, correlations) as session:
        session.coins.words(0)  # the parties agree on the key
        coins = RecordedCoins(session.coins)
        backend = CryptenBackend(replace(session, coins=coins))  # type: ignore[arg-type]
        share = rows[mesh.rank]
        results = {
            "select_random": lambda: backend.select_random(coefficients(share)),
            "extend_chain": lambda: backend.extend_chain(share[0], 2),
            "random_chain": lambda: backend.random_chain(3, (FRESH_WORDS,)),
        }[gate]()
    contributions = [frame.tobytes() for frame in recorder.rounds[0]]
    assert len(set(contributions)) == mesh.size
    assert all(len(each) == 32 for each in contributions)
    return list(results), recorder.rounds[1:], np.concatenate(coins.drawn)


FRESH_REQUESTS = {
    "select_random": CorrelationRequest("and", 2, FRESH_WORDS, 2),
    "extend_chain": CorrelationRequest("chain", 2, FRESH_WORDS),
    "random_chain": CorrelationRequest("chain", 2, FRESH_WORDS),
}


def dealt_masks(seeds: Sequence[bytes], request: CorrelationRequest) -> Words:
    """What the dealer knows: the masks, in clear."""
    shares = []
    for rank, seed in enumerate(seeds):
        source = ReceivedCorrelations(seed, iter([bytes(8 * correction_words(request))] if rank == 0 else ()))
        party = DealtCorrelations(source, rank=rank)
        if request.kind == "and":
            masks, products, _ = party.selection(request.selectors, request.fan, request.words)
            shares.append(np.concatenate([masks.reshape(-1, request.words), products[[0, 1]]]))
        else:
            chain = party.chain(request.fan, request.words)
            shares.append(np.stack([chain[1 << bit] for bit in range(request.fan + 1)]))
    return xor(shares)


def run_fresh(party_count: int, gate: str, rows: Words) -> tuple[Transcript, Words]:
    """Run one gate with fresh operands; return all that happened, and the dealer's masks."""
    known: list[Words] = []

    def dealer(schedule: Sequence[CorrelationRequest], seeds: Sequence[bytes]) -> Iterator[bytes]:
        known.append(dealt_masks(seeds, schedule[0]))
        return deal(schedule, seeds)

    schedule = [FRESH_REQUESTS[gate]]
    shares = share_words(rows, party_count)
    results = run_parties(party_count, fresh_job, gate, shares, schedule=schedule, dealer=dealer)
    for result in results[1:]:
        assert np.array_equal(result[2], results[0][2])  # the coins are common
    return Transcript([result[0] for result in results], results[0][1], results[0][2]), known[0]


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
@pytest.mark.parametrize("gate", FRESH_REQUESTS)
def test_fresh_operands_are_what_masks_and_coins_say(gate: str, party_count: int) -> None:
    generator = np.random.default_rng(13)
    rows = generator.integers(-(2**63), 2**63, (2, FRESH_WORDS))
    run, masks = run_fresh(party_count, gate, rows)
    coins = run.coins.reshape(-1, FRESH_WORDS)
    assert len(coins) == {"select_random": 2, "extend_chain": 2, "random_chain": 3}[gate]  # each fresh bit has its own
    assert np.unique(coins).size == coins.size
    if gate == "select_random":
        y = masks[-2:] ^ coins
        expected = list(rows & y ^ (rows[0] ^ rows[1]) & y[0] & y[1])
    elif gate == "extend_chain":
        expected = list(np.bitwise_and.accumulate([rows[0], *(masks[1:] ^ coins)])[1:])
    else:
        expected = list(np.bitwise_and.accumulate(masks ^ coins))
    assert [words.tolist() for words in run.results] == [words.tolist() for words in expected]


@pytest.mark.parametrize("pattern", [0, -1])
@pytest.mark.parametrize("gate", FRESH_REQUESTS)
def test_openings_with_fresh_operands_are_uniform_and_few(gate: str, pattern: int) -> None:
    run, _ = run_fresh(3, gate, np.full((2, FRESH_WORDS), pattern, dtype=np.int64))
    opened = {"select_random": 6, "extend_chain": 1, "random_chain": 0}[gate]
    assert [words.size for words in run.opened] == [opened * FRESH_WORDS] * (opened > 0)
    for words in (*run.opened, *(frame for frames in run.frames for frame in frames), *run.shares):
        assert uniform_bytes_p_value(words) > SIGNIFICANCE


def fair(words: Words) -> bool:
    """Whether the number of ones is within 6.5 standard deviations of half."""
    ones = int(np.unpackbits(np.ascontiguousarray(words).view(np.uint8)).sum())
    return bool(abs(2 * ones - 64 * words.size) <= 6.5 * (64 * words.size) ** 0.5)


@pytest.mark.parametrize("gate", FRESH_REQUESTS)
def test_nobody_knows_a_fresh_operand(gate: str) -> None:
    """It is independent of all the parties hold but one share of each mask, and of all the dealer knows."""
    run, masks = run_fresh(3, gate, np.full((2, FRESH_WORDS), -1, dtype=np.int64))
    fresh = run.results[0]  # the head is 1, so the first product is the operand itself
    coins = run.coins[:FRESH_WORDS]
    mask = {"select_random": masks[-2], "extend_chain": masks[1], "random_chain": masks[0]}[gate]
    assert np.array_equal(fresh, mask ^ coins)
    others = [coins, mask, *run.opened, *run.shares, *masks]
    views = [words[i : i + FRESH_WORDS] for words in others for i in range(0, words.size, FRESH_WORDS)]
    for view in (np.zeros_like(fresh), *views):
        assert fair(fresh ^ view)
        assert fair((fresh ^ view) & np.roll(fresh, 1) | (fresh ^ np.roll(view, 1)) & ~np.roll(fresh, 1))
    for low in range(3):  # any two parties' shares of it
        pair = run.shares[low * len(run.results)] ^ run.shares[(low + 1) % 3 * len(run.results)]
        assert fair(fresh ^ pair)
        assert fair(fresh ^ pair ^ coins)


# -- random integers, unmask ----------------------------------------------------------------------------------------


def unmask_job(
    mesh: Mesh, correlations: CorrelationSource, digits: list[Words]
) -> tuple[RingVector, list[Words], dict[str, float], Words, RingVector]:
    recorder = RecordingMesh(mesh)
    with crypten_session(recorder, correlations) as session:
        backend = CryptenBackend(session)
        masks = backend.random_integers(len(digits[0]) - 1, digits[0].shape[1])
        values = backend.unmask(digits[mesh.rank], masks[1])
        statistics = session.communicator.get_communication_stats()
    return values, recorder.rounds[0], statistics, *masks


def unmask_parties(party_count: int, digits: Words, **options: Any) -> tuple[list[Any], RingVector, NDArray[np.int64]]:
    """Run one unmasking of public digits; return the results, the sum of the shares, and the masks."""
    bits, words = len(digits) - 1, digits.shape[1]
    schedule = [CorrelationRequest("integer", bits, words), CorrelationRequest("integer", 1, words)]
    results = run_parties(party_count, unmask_job, share_words(digits, party_count), schedule=schedule, **options)
    return results, np.sum([result[0] for result in results], axis=0), np.sum([result[4] for result in results], axis=0)


@pytest.mark.parametrize("party_count", PARTY_COUNTS)
def test_unmasking_subtracts_the_masks(party_count: int) -> None:
    digits = np.stack([*patterns(), *(~words for words in patterns()), patterns()[0] ^ patterns()[1]])
    results, values, masks = unmask_parties(party_count, digits)
    assert np.array_equal(masks, integers(xor([result[3] for result in results])))
    assert np.array_equal(values, integers(digits) - masks)
    assert (masks.min(), masks.max()) == (0, 15)
    assert np.array_equal(xor(results[0][1])[: digits[:-1].size], digits[:-1].reshape(-1))  # these come masked
    for result in results:
        assert uniform_bytes_p_value(result[0]) > SIGNIFICANCE
        assert uniform_bytes_p_value(result[3]) > SIGNIFICANCE
        assert uniform_bytes_p_value(result[4]) > SIGNIFICANCE
        assert result[2]["rounds"] == 1
        assert result[2]["bytes"] == 8 * digits.size * (party_count - 1)  # packed


@pytest.mark.parametrize("pattern", [0, -1])
def test_the_carry_stays_secret(pattern: int) -> None:
    digits = np.full((2, 4096), pattern, dtype=np.int64)
    results, _, _ = unmask_parties(3, digits)
    assert np.array_equal(xor(results[0][1])[:4096], digits[0])
    assert uniform_bytes_p_value(xor(results[0][1])[4096:]) > SIGNIFICANCE


def test_wrong_corrections_spoil_the_masks() -> None:
    digits = np.stack([patterns()[0], patterns()[1]])
    results, _, masks = unmask_parties(2, digits, dealer=deal_one_wrong_bit)
    wrong = np.flatnonzero(masks != integers(xor([result[3] for result in results])))
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
        with pytest.raises(ValueError, match=r"selector of the rows' shape \(3,\), not \(1,\)"):
            backend.and_rows(np.zeros((1, 3), dtype=np.int64), np.zeros(1, dtype=np.int64))


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
