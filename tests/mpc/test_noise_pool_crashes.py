"""Whatever ends, comes back or is restored: no noise serves two sessions, and none that not all parties hold."""

import hashlib
import multiprocessing
import secrets
import tempfile
import time
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from pool_parties import Crash, CrashError, Parties, SharesUnsafe, engine_unsafe, no_dealer

from mpcdp.errors import BudgetError, MpcdpError, ProtocolError
from mpcdp.mpc.backend import Mesh
from mpcdp.mpc.noise_bank import NoisePool, PooledNoise, fill, reconcile, session_noise
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.ledger import Ledger

_COST = PrivacyBudget(epsilon=1e-3, delta=1e-12)


# -- several parties ---------------------------------------------------------------------------------------------------


class Lives(RuleBasedStateMachine):
    """Parties fill, use, crash and come back older, each alone or all together; one owner keeps its ledger."""

    owner_looks = True

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.ledger = Ledger(Path(self.folder.name) / "ledger.db")
        self.user: dict[int, bytes] = {}  # who has used a number: SharesUnsafe makes none twice
        self.copies: list[list[Path]] = []
        self.interrupted: list[tuple[bytes, int, int]] = []

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    @initialize(size=st.integers(2, 3))
    def begin(self, size: int) -> None:
        self.parties = Parties(Path(self.folder.name), size)
        self.parties.fill(8192)
        self.back_up()

    crashes = st.none() | st.none() | st.builds(Crash, st.integers(0, 2), st.integers(0, 7), st.booleans())

    @rule(blocks=st.integers(1, 3), crash=crashes)
    def fill(self, blocks: int, crash: Crash | None) -> None:
        for result in self.parties.fill(1024 * blocks, crash=crash):
            self._expect(result)

    @rule(dimension=st.integers(1, 1500), rounds=st.integers(1, 3), crash=crashes)
    def new_session(self, dimension: int, rounds: int, crash: Crash | None) -> None:
        self._run(secrets.token_bytes(32), dimension, rounds, crash)

    @precondition(lambda self: self.interrupted)
    @rule(data=st.data(), crash=crashes)
    def session_comes_back(self, data: st.DataObject, crash: Crash | None) -> None:
        self._run(*data.draw(st.sampled_from(self.interrupted)), crash)

    @rule()
    def back_up(self) -> None:
        paths = [self.parties.path(rank) for rank in range(self.parties.size)]
        if all(path.exists() for path in paths):
            self.copies.append([self.parties.copy(rank) for rank in range(self.parties.size)])

    @rule(data=st.data(), rank=st.integers(1, 2))
    def one_party_is_restored(self, data: st.DataObject, rank: int) -> None:
        if rank < self.parties.size:
            self.parties.restore(rank, data.draw(st.sampled_from(self.copies))[rank])

    @precondition(lambda self: self.owner_looks)
    @rule(data=st.data())
    def all_parties_are_restored(self, data: st.DataObject) -> None:
        copies = data.draw(st.sampled_from(self.copies))
        for rank in range(self.parties.size):
            self.parties.restore(rank, copies[rank])

    @rule()
    def discard(self) -> None:
        for rank in range(self.parties.size):
            with NoisePool(self.parties.path(rank)) as pool:
                pool.discard()

    def _expect(self, result: Any) -> None:
        """Errors are refusals or failures of peers; anything else is a fault of the product."""
        if isinstance(result, Exception) and not isinstance(result, MpcdpError | CrashError):
            raise result

    def _run(self, session: bytes, dimension: int, rounds: int, crash: Crash | None) -> None:
        taken: dict[int, list[Any]] = {}
        names = self.parties.names
        task = hashlib.sha256(session).digest()

        def use(source: PooledNoise, mesh: Mesh) -> None:
            mesh.exchange("owner", b"")  # all have the range: the owner is told
            if mesh.rank == 0:
                verdict = self._tell_owner(session, task, source)
            answers = mesh.exchange("verdict", verdict if mesh.rank == 0 else b"")
            if answers[0] != b"":
                raise ProtocolError(bytes(answers[0]).decode())
            for index in range(rounds):
                share = source.take(index).values
                mesh.exchange("round", b"")
                taken.setdefault(index, []).append(share)
                source.forget(index)

        results = self.parties.session(session, use, dimension=dimension, rounds=rounds, crash=crash)
        for result in results:
            self._expect(result)
        if any(isinstance(result, Exception) for result in results):
            self.interrupted.append((session, dimension, rounds))
        assert len(names) == len(results)
        for shares in taken.values():
            if len(shares) == len(names):  # what not all parties took can be released by nobody
                self._note(session, sum(shares))

    def _tell_owner(self, session: bytes, task: bytes, source: PooledNoise) -> bytes:
        if not self.owner_looks:
            return b""
        with Ledger(Path(self.folder.name) / "ledger.db") as ledger:  # SQLite connections stay on their thread
            try:
                ledger.charge(task, session, "task", _COST, releases=1)
                ledger.record_noise(session, source.range.bank, source.range.start, source.range.end)
            except BudgetError as error:
                return str(error).encode()
        return b""

    def _note(self, session: bytes, noise: Any) -> None:
        for number in noise.tolist():
            attempt, offset = divmod(number, 1 << 40)
            assert 1 <= attempt < 10_000, "shares of different batches were added up"
            assert offset < 1 << 20
            assert self.user.setdefault(number, session) == session, "noise served two sessions"


class LivesOfPositions(Lives):
    """One party is never restored, no owner looks, and no sample is ever overwritten: positions alone have to do it."""

    owner_looks = False

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("mpcdp.mpc.noise_bank.batch_file._overwrite", lambda *_, **__: None)

    def teardown(self) -> None:
        self.patch.undo()
        super().teardown()


def _run_lives(kind: type[Lives], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        kind,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize("kind", [Lives, LivesOfPositions])
def test_no_noise_serves_two_sessions_whatever_happens(kind: type[Lives]) -> None:
    _run_lives(kind, examples=15, steps=12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Lives, LivesOfPositions])
def test_no_noise_serves_two_sessions_in_many_lives(kind: type[Lives]) -> None:
    _run_lives(kind, examples=500, steps=30)


# -- a process that is killed ------------------------------------------------------------------------------------------


class _AloneMesh:
    rank = 0
    size = 1

    def exchange(self, operation: str, payload: bytes | memoryview) -> list[bytes | memoryview]:
        return [payload]


def _live(folder: Path, attempt: int, out: Connection) -> None:
    """Fill, reserve, take and release until killed, and report every noise before it is used."""
    mesh, names, generator = _AloneMesh(), ["party-1"], np.random.default_rng(attempt)
    out.send("ready")
    while True:
        with NoisePool(folder) as pool:
            attempt += 1
            reconcile(pool, mesh, peers=names)
            noise = SharesUnsafe(0, 1, attempt)
            fill(pool, noise, PlaintextBackend(), mesh, samples=1024 * int(generator.integers(1, 40)), peers=names)
            session = secrets.token_bytes(32)
            pool.release_others(session)
            attempt += 1
            noise = SharesUnsafe(0, 1, attempt)
            arguments: Any = {
                "session": session,
                "dimension": int(generator.integers(1, 5000)),
                "rounds": 5,
                "peers": names,
            }
            with session_noise(pool, noise, mesh, engine_unsafe, no_dealer, **arguments) as (_, source):
                for index in range(5):
                    share = source.take(index).values
                    out.send((session, source.range.bank, source.range.start, source.range.end, share))
                    source.forget(index)
            pool.release(session)


def _lives(folder: Path, kills: int) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pool_parties", "pytest", "hypothesis"])
    generator = np.random.default_rng(7)
    ranges: dict[bytes, tuple[bytes, int, int]] = {}
    numbers: dict[int, bytes] = {}
    for life in range(kills):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_live, args=(folder, 1000 * (life + 1), theirs), daemon=True)
        process.start()
        theirs.close()
        assert ours.poll(30)
        assert ours.recv() == "ready"
        time.sleep(generator.uniform(0, 0.15))
        process.kill()
        process.join()
        try:
            while True:
                session, bank, start, end, share = ours.recv()
                assert ranges.setdefault(session, (bank, start, end)) == (bank, start, end)
                for number in share.tolist():
                    assert numbers.setdefault(number, session) == session
        except (EOFError, OSError):
            ours.close()
        assert process.exitcode == -9, "it failed by itself"
        process.close()
    used = sorted(ranges.values())
    assert len({bank for bank, _, _ in used}) == 1
    assert all(end <= start for (_, _, end), (_, start, _) in pairwise(used))
    assert len(used) > kills // 4, "the process did not live long enough to use anything"


@pytest.mark.slow
def test_a_killed_process_never_uses_noise_twice(tmp_path: Path) -> None:
    _lives(tmp_path / "pool", 20)


@pytest.mark.slow
def test_a_process_killed_many_times_never_uses_noise_twice(tmp_path: Path) -> None:
    _lives(tmp_path / "pool", 300)
