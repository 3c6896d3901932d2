"""The contribution check on true shares in processes of their own: verdicts, costs, and what the parties see."""

from typing import Any

import numpy as np
import pytest
from party_processes import run_parties
from test_crypten_backend import SIGNIFICANCE, RecordingMesh, uniform_bytes_p_value, xor

from mpcdp.mpc.backend import CorrelationRequest, CorrelationSource, Mesh, Words
from mpcdp.mpc.contribution_check import NormCheck, check_contributions, check_schedule, norm_check
from mpcdp.mpc.crypten_backend import CryptenBackend
from mpcdp.mpc.crypten_session import crypten_session
from mpcdp.secret_sharing.shares import RingVector, SharedVector, Verdicts

CHECK = norm_check(dimension=700, scale=2.0**26, bounds=[500.0])
OWNERS = 40
LONG = int(CHECK.accepted(0)) + 1

Frames = list[list[Words]]


def check_job(
    mesh: Mesh, correlations: CorrelationSource, check: NormCheck, shares: list[RingVector]
) -> tuple[Verdicts, Any, Frames, dict[str, float]]:
    recorder = RecordingMesh(mesh)
    with crypten_session(recorder, None) as session:
        backend = CryptenBackend(session)
        backend.supply(correlations)
        owners = [0] * (shares[mesh.rank].size // check.dimension)
        vectors = shares[mesh.rank].reshape(len(owners), check.dimension)
        verdicts = check_contributions(backend, check, owners, [SharedVector(row.copy()) for row in vectors])
        opened = backend.reveal_verdicts(verdicts)
        return verdicts.bits, opened, recorder.rounds, session.communicator.get_communication_stats()  # type: ignore[return-value]


def run_check(check: NormCheck, vectors: RingVector, party_count: int) -> list[Any]:
    generator = np.random.default_rng(5)
    flat = vectors.reshape(-1)
    shares = [generator.integers(-(2**63), 2**63, flat.size) for _ in range(party_count - 1)]
    shares.append(flat - np.sum(shares, axis=0))
    return run_parties(party_count, check_job, check, shares, schedule=check_schedule(check, len(vectors)))


def mixed(pattern: str) -> RingVector:
    """Vectors of owners of whom every third cheats, unless all do or none does."""
    vectors = np.zeros((OWNERS, CHECK.dimension), dtype=np.int64)
    if pattern == "none":
        vectors[:] = int(500 * 2**26 / 700**0.5)
        return vectors
    step = {"all": 1, "some": 3}[pattern]
    vectors[::step, 17] = np.resize([LONG, -LONG, -(2**63), 2**63 - 1, 2**62], len(vectors[::step]))
    return vectors


@pytest.mark.parametrize("party_count", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_verdicts_of_true_shares(party_count: int) -> None:
    for _, opened, rounds, statistics in run_check(CHECK, mixed("some"), party_count):
        assert opened.tolist() == [owner % 3 != 0 for owner in range(OWNERS)]
        assert statistics["rounds"] == len(rounds) == 13  # 700 coordinates are 11 words, which join in two
        coordinates = OWNERS * CHECK.dimension
        assert statistics["bytes"] / (party_count - 1) / coordinates == pytest.approx(8 + 3 + 1 / 6, rel=0.1)


@pytest.mark.parametrize("pattern", ["none", "some", "all"])
def test_what_is_opened_before_the_verdicts_is_uniform(pattern: str) -> None:
    """To any two of the three parties, and to whoever reads everything: the frames and what they open."""
    results = run_check(CHECK, mixed(pattern), 3)
    *before, _ = results[0][2]
    frames = [np.concatenate([frames[rank] for frames in before]) for rank in range(3)]
    for words in (*frames, xor(frames), *(frames[a] ^ frames[b] for a, b in ((0, 1), (0, 2), (1, 2)))):
        assert uniform_bytes_p_value(words) > SIGNIFICANCE
    masked = before[0]
    opened = np.sum(masked, axis=0)
    for words in (*masked, opened, opened - mixed(pattern).reshape(-1)[: opened.size].mean().astype(np.int64)):
        assert uniform_bytes_p_value(words) > SIGNIFICANCE
    assert uniform_bytes_p_value(mixed(pattern)) < SIGNIFICANCE  # the test can fail


def test_the_last_opening_shows_one_bit_for_each_owner_and_no_more() -> None:
    """The verdicts' shares are fresh: those of two parties are uniform although all verdicts are the same."""
    owners = 6400
    check = norm_check(dimension=1, scale=1.0, bounds=[100.0])
    results = run_check(check, np.zeros((owners, 1), dtype=np.int64), 3)
    shares = [bits for bits, *_ in results]
    assert xor(shares).tolist() == [-1] * (owners // 64)
    for words in (*shares, shares[0] ^ shares[1], shares[0] ^ shares[2]):
        assert uniform_bytes_p_value(words) > SIGNIFICANCE
    last = results[0][2][-1]
    assert [frame.size for frame in last] == [owners // 64] * 3
    odd = run_check(check, np.zeros((3, 1), dtype=np.int64), 3)
    assert [int(bits[0]) >> 3 for bits, *_ in odd] == [0, 0, 0]  # bits of nobody are not even shares
    assert int(xor(odd[0][2][-1])[0]) == 0b111


def unsupplied_job(mesh: Mesh, correlations: CorrelationSource) -> str:
    with crypten_session(mesh, None) as session:
        try:
            CryptenBackend(session).open_masked(np.zeros(64, dtype=np.int64), digits=4, shift=0)
        except RuntimeError as error:
            return str(error)
    return ""


def test_nothing_is_opened_without_the_dealer() -> None:
    schedule: list[CorrelationRequest] = []
    for problem in run_parties(2, unsupplied_job, schedule=schedule):
        assert "without a dealer's correlations" in problem
