"""The parties' pools stay alike: filled together, compared before every use, whatever one of them lost."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from party_processes import run_parties
from pool_parties import Crash, CrashError, Parties, SharesUnsafe, engine_unsafe, no_dealer
from thread_parties import SharingBackendUnsafe, run_in_threads

from mpcdp.errors import BudgetError, PeerUnavailable, ProtocolError
from mpcdp.mpc.backend import Mesh
from mpcdp.mpc.dealing import ReceivedCorrelations
from mpcdp.mpc.noise import UniversalNoise, universal_noise
from mpcdp.mpc.noise_bank import NoisePool, PerPartyNoise, PooledNoise, PoolState, fill, reconcile, session_noise
from mpcdp.mpc.noise_bank.state import NoiseRange
from mpcdp.secret_sharing.shares import NoisedVector, SharedVector

A, B, C = b"A" * 32, b"B" * 32, b"C" * 32


def take_all(rounds: int) -> Any:
    def use(source: PooledNoise, mesh: Mesh) -> Any:
        taken = []
        for index in range(rounds):
            taken.append(source.take(index).values)
            source.forget(index)
        return source.range, np.array(taken)

    return use


def totals(results: list[Any]) -> tuple[NoiseRange, Any]:
    """Add all parties' shares up."""
    ranges = {reserved for reserved, _ in results}
    assert len(ranges) == 1
    return ranges.pop(), sum(shares for _, shares in results)


@pytest.fixture(name="parties", params=[2, 3])
def _parties(tmp_path: Path, request: pytest.FixtureRequest) -> Parties:
    return Parties(tmp_path, request.param)


def test_a_session_makes_what_the_pools_lack_and_the_next_one_goes_on_behind_it(parties: Parties) -> None:
    first, noise = totals(parties.session(A, take_all(3), dimension=700, rounds=3))
    assert (first.start, first.count) == (0, 3072)
    assert noise.tolist() == SharesUnsafe.numbers(1, 2100).reshape(3, 700).tolist()
    parties.fill(2048)
    second, noise = totals(parties.session(B, take_all(2), dimension=2000, rounds=2))
    assert (second.bank, second.start, second.count) == (first.bank, 3072, 4096)
    # What was there is used first, and only the rest is made: 2048 of attempt 2, 2048 of attempt 3.
    made = [*SharesUnsafe.numbers(2, 2048), *SharesUnsafe.numbers(3, 2048)][:4000]
    assert noise.ravel().tolist() == made


def test_the_dealer_is_asked_once_for_exactly_what_is_missing(tmp_path: Path) -> None:
    asked: list[int] = []

    def ask(samples: int) -> ReceivedCorrelations:
        asked.append(samples)
        return ReceivedCorrelations(bytes(32), iter(()))

    parties = Parties(tmp_path, 2)
    parties.fill(3072)

    def job(session: bytes) -> Any:
        def run(pool: NoisePool, mesh: Mesh, noise: UniversalNoise) -> None:
            arguments: Any = {"session": session, "dimension": 1100, "rounds": 2, "peers": parties.names}
            with session_noise(pool, noise, mesh, engine_unsafe, ask, **arguments):
                pass

        return run

    assert parties.run(job(A)) == [None, None]
    assert asked == []
    assert parties.run(job(B)) == [None, None]
    assert asked == [3072, 3072]


@pytest.mark.parametrize("interrupted", [0, 1, 2, 3])
def test_an_interrupted_session_goes_on_with_the_same_noise(tmp_path: Path, interrupted: int) -> None:
    """Whatever it had used, and whichever processes are new: number t is the same at every attempt."""
    parties = Parties(tmp_path, 2)
    seen: list[dict[int, Any]] = [{}, {}]

    def attempt(first: int) -> Any:
        def run(pool: NoisePool, mesh: Mesh, noise: UniversalNoise) -> NoiseRange:
            arguments: Any = {"session": A, "dimension": 700, "rounds": 4, "peers": parties.names, "begun": first > 0}
            with session_noise(pool, noise, mesh, engine_unsafe, no_dealer, **arguments) as (_, source):
                for index in range(first, 4 if first else interrupted + 1):
                    share = source.take(index).values
                    assert (seen[mesh.rank].setdefault(index, share) == share).all()
                    if index < interrupted:
                        source.forget(index)
                return source.range

        return run

    first = parties.run(attempt(0))
    assert parties.run(attempt(max(interrupted, 1))) == first
    assert len(set(first)) == 1
    assert (seen[0][3] + seen[1][3]).tolist() == SharesUnsafe.numbers(1, 2800)[2100:].tolist()


@pytest.mark.parametrize("lost", [0, 1])
def test_a_session_that_has_begun_gets_no_other_noise_and_the_party_that_lost_it_is_named(
    tmp_path: Path, lost: int
) -> None:
    parties = Parties(tmp_path, 2)
    parties.fill(1024)
    old = parties.copy(lost)

    def attempt(pool: NoisePool, mesh: Mesh, noise: UniversalNoise) -> NoiseRange:
        arguments: Any = {"session": A, "dimension": 10, "rounds": 2, "peers": parties.names, "begun": begun}
        with session_noise(pool, noise, mesh, engine_unsafe, no_dealer, **arguments) as (_, source):
            return source.range

    begun = False
    first: Any = parties.run(attempt)[0]
    parties.restore(lost, old)
    begun = True
    for error in parties.run(attempt):
        assert isinstance(error, ProtocolError)
        assert f"party-{lost + 1} has lost the noise of this session" in str(error)
    # Nothing was changed, so whoever still has it could give it back; a session that has not begun gets other noise.
    with NoisePool(parties.path(1 - lost)) as pool:
        assert pool.state(A).reserved == (first.start, first.count)
    begun = False
    second: Any = parties.run(attempt)[0]
    assert second.start >= first.end


def test_left_over_corrections_of_the_dealer_are_an_error(tmp_path: Path) -> None:
    def ask(samples: int) -> ReceivedCorrelations:
        return ReceivedCorrelations(bytes(32), iter([b"12345678"]))

    def run(pool: NoisePool, mesh: Mesh, noise: UniversalNoise) -> None:
        arguments: Any = {"session": A, "dimension": 10, "rounds": 2, "peers": parties.names}
        with session_noise(pool, noise, mesh, engine_unsafe, ask, **arguments):
            pass

    parties = Parties(tmp_path, 2)
    for error in parties.run(run):
        assert isinstance(error, ProtocolError)
        assert "more corrections" in str(error)


def test_the_end_of_a_session_destroys_its_noise_even_when_it_fails(tmp_path: Path) -> None:
    parties = Parties(tmp_path, 2)
    parties.fill(5 * 1024)

    def fail(source: PooledNoise, mesh: Mesh) -> None:
        source.take(0)
        raise ProtocolError("the session failed")

    parties.session(A, fail, dimension=1024, rounds=2)
    for rank in range(2):
        data = next(parties.path(rank).glob("*.noise")).read_bytes()
        assert data[: 2 * 8208] == bytes(2 * 8208)
        assert data[2 * 8208 : 3 * 8208] != bytes(8208)
    for error in parties.session(A, take_all(2), dimension=1024, rounds=2):
        assert isinstance(error, BudgetError)


def test_used_noise_is_overwritten_while_the_session_goes_on(tmp_path: Path) -> None:
    parties = Parties(tmp_path, 2)

    def use(source: PooledNoise, mesh: Mesh) -> bytes:
        for index in range(6):
            source.take(index)
            source.forget(index)
        return next(parties.path(mesh.rank).glob("*.noise")).read_bytes()

    for data in parties.session(A, use, dimension=500, rounds=10):
        assert [data[block * 8208 :][:8208] == bytes(8208) for block in range(5)] == [True, True, False, False, False]


def test_a_number_is_taken_once(tmp_path: Path) -> None:
    def use(source: PooledNoise, mesh: Mesh) -> None:
        source.take(1)
        with pytest.raises(BudgetError, match="noise number 1 was used already"):
            source.take(1)
        for index in (-1, 3, 2**70):
            with pytest.raises(ProtocolError, match="numbers 0 to 2"):
                source.take(index)
        source.take(0)

    assert Parties(tmp_path, 2).session(A, use, dimension=7, rounds=3) == [None, None]


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("exchange", [0, 1, 2])
def test_an_interrupted_batch_is_used_by_nobody_and_its_positions_are_burnt(
    parties: Parties, exchange: int, sent: bool
) -> None:
    parties.fill(1024)
    results = parties.fill(2048, crash=Crash(rank=1, exchange=exchange, sent=sent))
    assert isinstance(results[1], CrashError)
    everybody_heard = exchange == 2 and sent
    assert isinstance(results[0], PoolState if everybody_heard else PeerUnavailable)
    reserved, noise = totals(parties.session(A, take_all(1), dimension=1500, rounds=1))
    if exchange == 2 or (exchange == 1 and sent):  # somebody had begun to write
        assert reserved.start == 3072
        assert noise[0].tolist() == SharesUnsafe.numbers(3, 1500).tolist()
    else:
        assert reserved.start == 0
        assert noise[0].tolist() == [*SharesUnsafe.numbers(1, 1024), *SharesUnsafe.numbers(3, 476)]


def test_a_session_that_was_killed_leaves_its_noise_to_nobody(parties: Parties) -> None:
    def die(source: PooledNoise, mesh: Mesh) -> None:
        source.take(0)
        mesh.exchange("round", b"")

    parties.session(A, die, dimension=1024, rounds=2, crash=Crash(rank=0, exchange=4, sent=False))
    reserved, noise = totals(parties.session(B, take_all(1), dimension=1024, rounds=1))
    assert reserved.start == 2048
    assert noise[0].tolist() == SharesUnsafe.numbers(2, 1024).tolist()


def test_a_session_that_is_over_at_one_party_is_over_for_all(parties: Parties) -> None:
    def die(source: PooledNoise, mesh: Mesh) -> None:
        source.take(0)
        mesh.exchange("round", b"")

    crashed = parties.session(A, die, dimension=1024, rounds=2, crash=Crash(rank=0, exchange=4, sent=False))
    assert isinstance(crashed[0], CrashError)
    again = parties.session(A, take_all(2), dimension=1024, rounds=2)
    assert all(isinstance(error, BudgetError | PeerUnavailable) for error in again)
    reserved, _ = totals(parties.session(B, take_all(2), dimension=1024, rounds=2))
    assert reserved.start >= 2048


def test_all_killed_at_once_go_on_with_the_number_that_was_not_taken(tmp_path: Path) -> None:
    parties = Parties(tmp_path, 2)
    copies: list[Path] = []

    def die(source: PooledNoise, mesh: Mesh) -> None:
        source.take(0)
        source.forget(0)
        mesh.exchange("round", b"")
        if mesh.rank == 0:
            copies.extend(parties.copy(rank) for rank in range(2))
        mesh.exchange("copied", b"")

    parties.session(A, die, dimension=1024, rounds=2)
    for rank in range(2):
        parties.restore(rank, copies[rank])

    def go_on(source: PooledNoise, mesh: Mesh) -> Any:
        with pytest.raises(BudgetError, match="damaged or were used"):
            source.take(0)
        return source.range, source.take(1).values

    reserved, noise = totals(parties.session(A, go_on, dimension=1024, rounds=2))
    assert reserved.start == 0
    assert noise.tolist() == SharesUnsafe.numbers(1, 2048)[1024:].tolist()


def test_a_party_that_comes_back_older_brings_no_used_noise_back(parties: Parties) -> None:
    parties.fill(4096)
    copy = parties.copy(1)
    used, first = totals(parties.session(A, take_all(1), dimension=1024, rounds=1))
    parties.restore(1, copy)
    reserved, second = totals(parties.session(B, take_all(1), dimension=1024, rounds=1))
    assert reserved.start == used.end
    assert not set(first.ravel()) & set(second.ravel())
    # Older than the batch: the batch is nobody's any more.
    empty = parties.folder / "older"
    shutil.copytree(copy, empty)
    with NoisePool(empty) as pool:
        pool.agree(PoolState(pool.state().bank, 0, 4096))
    parties.restore(0, empty)
    reserved, third = totals(parties.session(C, take_all(1), dimension=1024, rounds=1))
    assert reserved.start == 4096
    assert third.ravel().tolist() == SharesUnsafe.numbers(4, 1024).tolist()


def test_a_party_without_its_pool_or_with_another_one_is_refused(parties: Parties) -> None:
    parties.fill(1024)
    kept = parties.copy(1)
    shutil.rmtree(parties.path(1))
    for error in parties.fill(1024):
        assert isinstance(error, ProtocolError)
        assert "party-2 has lost the noise pool it shared with party-1: run `mpcdp noise discard`" in str(error)
    for rank in range(parties.size):
        with NoisePool(parties.path(rank)) as pool:
            pool.discard()
    parties.fill(1024)
    parties.restore(1, kept)
    for error in parties.fill(1024):
        assert isinstance(error, ProtocolError)
        assert "party-2 has another noise pool than party-1" in str(error)


def test_ids_are_fresh_if_one_party_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All parties but one draw what they drew before."""
    monkeypatch.setattr("mpcdp.mpc.noise_bank.filling.secrets.token_bytes", lambda count: bytes(count))
    parties = Parties(tmp_path, 2)
    same = {state.bank for state in parties.fill(1024)}
    own = iter(range(1, 100))
    monkeypatch.setattr(
        "mpcdp.mpc.noise_bank.filling.secrets.token_bytes", lambda count: bytes([next(own)]).ljust(count)
    )
    for rank in range(2):
        with NoisePool(parties.path(rank)) as pool:
            pool.discard()
    fresh = {state.bank for state in parties.fill(1024)}
    assert len(same) == len(fresh) == 1
    assert same != fresh


def test_the_joint_sampler_fills_pools_in_chunks(tmp_path: Path) -> None:
    noise = universal_noise("gaussian", "joint")
    names = ["party-1", "party-2"]
    made: list[int] = []

    def party(mesh: Mesh) -> Any:
        with NoisePool(tmp_path / names[mesh.rank]) as pool:
            reconcile(pool, mesh, peers=names)
            backend = SharingBackendUnsafe(mesh, b"pool")
            fill(pool, noise, backend, mesh, samples=2048, peers=names, progress=made.append)
            pool.reserve(A, 2048)
            return pool.take(0, 2048).values

    shares = run_in_threads(2, party)
    total = shares[0] + shares[1]
    assert made == [2048, 2048]
    assert np.abs(total).max() <= noise.largest
    assert 0.9 * noise.scale <= total.std() <= 1.1 * noise.scale
    assert all(np.abs(share >> 40).max() > 2**16 for share in shares)


def test_a_range_has_to_hold_all_rounds(tmp_path: Path) -> None:
    with NoisePool(tmp_path) as pool:
        for dimension, rounds in ((1024, 2), (0, 1), (1, 0), (-1, -1)):
            with pytest.raises(ValueError, match="are not noise for"):
                PooledNoise(pool, NoiseRange(b"b" * 16, 0, 1024), dimension=dimension, rounds=rounds)


def test_per_party_noise_that_is_not_sampled_ahead_is_made_when_its_round_comes() -> None:
    noise = universal_noise("gaussian", "per-party")
    source = PerPartyNoise(noise, dimension=400, rounds=10**12)  # far more than could be kept
    shares = [source.take(index).values for index in (0, 10**12 - 1, 5)]
    for share in shares:
        assert 0.8 * noise.scale <= share.std() <= 1.25 * noise.scale
    assert len(np.unique(shares)) >= 1199
    with pytest.raises(BudgetError, match="noise number 5 was used already"):
        source.take(5)
    with pytest.raises(ProtocolError, match="does not exist"):
        source.take(10**12)
    for dimension, rounds in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="positive"):
            PerPartyNoise(noise, dimension=dimension, rounds=rounds)


def _crypten_session(mesh: Mesh, source: ReceivedCorrelations, folder: str) -> Any:
    """Two sessions on CrypTen: the first makes the noise, the second finds it in the pool."""
    from mpcdp.mpc.crypten_backend import crypten_engine

    noise, names = universal_noise("gaussian", "joint"), ["party-1", "party-2"]
    zeros = SharedVector(np.zeros(900, dtype=np.int64))
    asked: list[int] = []

    def ask(samples: int) -> ReceivedCorrelations:
        asked.append(samples)
        return source if samples else ReceivedCorrelations(bytes(32), iter(()))

    releases = []
    with NoisePool(Path(folder) / names[mesh.rank]) as pool:
        reconcile(pool, mesh, peers=names)
        with crypten_engine(mesh, source) as filler:
            fill(pool, noise, filler, mesh, samples=2048, peers=names, finish=source.finish)
        for session in (A, B):
            arguments: Any = {"session": session, "dimension": 900, "rounds": 1, "peers": names}
            with session_noise(pool, noise, mesh, crypten_engine, ask, **arguments) as (backend, noises):
                releases.append(backend.reveal(NoisedVector.add(zeros, noises.take(0))))
    return asked, np.array(releases)


def test_sessions_on_crypten_release_fresh_noise_from_the_pools(tmp_path: Path) -> None:
    schedule = universal_noise("gaussian", "joint").schedule(2048)
    (asked, first), (_, second) = run_parties(2, _crypten_session, str(tmp_path), schedule=schedule)
    assert asked == []
    assert (first == second).all()
    assert len(np.unique(first)) > 1790
    for release in first:
        assert 0.85 * 2**20 < release.std() < 1.15 * 2**20
