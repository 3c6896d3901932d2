"""Noise pools of several parties on threads of the test: each party may crash at any exchange, or come back older."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from mpcdp.errors import MpcdpError, PeerUnavailable
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.dealing import ReceivedCorrelations
from mpcdp.mpc.noise import UniversalNoise
from mpcdp.mpc.noise_bank import NoisePool, PooledNoise, fill, reconcile, session_noise
from mpcdp.mpc.plaintext_backend import PlaintextBackend
from mpcdp.secret_sharing.shares import NoiseShare

__all__ = ["Crash", "CrashError", "Parties", "SharesUnsafe", "engine_unsafe", "no_dealer"]


class CrashError(Exception):
    """The process is gone: nothing that it would still have done happens."""


@dataclass(frozen=True)
class Crash:
    """When a party's process ends.

    Args:
        rank: whose.
        exchange: at which exchange, from 0.
        sent: whether its message still reaches the others.
    """

    rank: int
    exchange: int
    sent: bool


class SharesUnsafe(UniversalNoise):
    """Stands in for the sampler: shares of numbers that the test knows, in chunks of odd sizes.

    Args:
        attempts: counts how often the parties have made a batch; no two attempts have a number in common.
    """

    def __init__(self, rank: int, size: int, attempt: int) -> None:
        super().__init__("gaussian", 2**20, total_variation=0.0, largest=2**62)
        object.__setattr__(self, "_place", (rank, size, attempt))

    @staticmethod
    def numbers(attempt: int, samples: int) -> Any:
        return (attempt << 40) + np.arange(samples, dtype=np.int64)

    def chunks(self, backend: Backend, count: int) -> Iterator[NoiseShare]:
        rank, size, attempt = self._place  # type: ignore[attr-defined]
        masks = [np.random.default_rng([attempt, peer]).integers(-(2**63), 2**63, count) for peer in range(1, size)]
        share = masks[rank - 1] if rank else self.numbers(attempt, count) - sum(masks)
        for start in range(0, count, 1500):
            yield NoiseShare(share[start : start + 1500].copy())


@contextmanager
def engine_unsafe(mesh: Mesh, correlations: CorrelationSource | None) -> Iterator[Backend]:
    yield PlaintextBackend(rank=mesh.rank, party_count=mesh.size, mesh=mesh)


def no_dealer(samples: int) -> ReceivedCorrelations:
    return ReceivedCorrelations(bytes(32), iter(()))


class _Meeting:
    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.sent: dict[tuple[int, int], tuple[str, bytes]] = {}
        self.gone: set[int] = set()


class _CrashingMesh:
    def __init__(self, rank: int, size: int, meeting: _Meeting, crash: Crash | None, die: Callable[[], None]) -> None:
        self.rank = rank
        self.size = size
        self._meeting = meeting
        self._crash = crash if crash is not None and crash.rank == rank else None
        self._die = die
        self._number = count()
        self.crashed = False

    def _end(self) -> None:
        self.crashed = True
        self._die()
        raise CrashError

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        number, meeting = next(self._number), self._meeting
        crash = self._crash is not None and self._crash.exchange == number
        if crash and self._crash is not None and not self._crash.sent:
            self._end()
        with meeting.changed:
            meeting.sent[number, self.rank] = (operation, bytes(payload))
            meeting.changed.notify_all()
            if crash:
                self._end()
            peers = range(self.size)
            meeting.changed.wait_for(
                lambda: all((number, peer) in meeting.sent or peer in meeting.gone for peer in peers), 20
            )
            lost = [peer for peer in peers if (number, peer) not in meeting.sent]
            if lost:
                raise PeerUnavailable(f"party-{lost[0] + 1}", "is gone")
            messages = [meeting.sent[number, peer] for peer in peers]
        assert {name for name, _ in messages} == {operation}
        return [content for _, content in messages]


@dataclass
class Parties:
    """The pools of k parties.

    Args:
        folder: of the test.
        size: k.
    """

    folder: Path
    size: int
    attempts: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.names = [f"party-{rank + 1}" for rank in range(self.size)]
        self._copies = count()

    def path(self, rank: int) -> Path:
        return self.folder / self.names[rank]

    def copy(self, rank: int) -> Path:
        """Make a back-up of a party's pool."""
        target = self.folder / f"copy-{next(self._copies)}"
        shutil.copytree(self.path(rank), target)
        return target

    def restore(self, rank: int, copy: Path) -> None:
        shutil.rmtree(self.path(rank), ignore_errors=True)
        shutil.copytree(copy, self.path(rank))

    def run(
        self, job: Callable[[NoisePool, Mesh, UniversalNoise], Any], *, crash: Crash | None = None
    ) -> list[Any | MpcdpError]:
        """Run a job as every party; return the results, or the errors of those that failed."""
        meeting, attempt = _Meeting(), next(self.attempts)

        def party(rank: int) -> Any:
            pool = NoisePool(self.path(rank))
            mesh = _CrashingMesh(rank, self.size, meeting, crash, pool.close)
            try:
                return job(pool, mesh, SharesUnsafe(rank, self.size, attempt))
            except MpcdpError as error:
                return error
            except (CrashError, sqlite3.ProgrammingError) as error:
                # What a process would have done that is gone fails on its closed database.
                if not mesh.crashed:
                    raise
                self._lose_unfinished_writes(rank)
                return error if isinstance(error, CrashError) else CrashError()
            finally:
                pool.close()
                with meeting.changed:
                    meeting.gone.add(rank)
                    meeting.changed.notify_all()

        with ThreadPoolExecutor(self.size) as threads:
            return list(threads.map(party, range(self.size)))

    def _lose_unfinished_writes(self, rank: int) -> None:
        """What was not synced may be anything after a power cut: no file of a batch that is not ready is spared."""
        with sqlite3.connect(self.path(rank) / "bank.db") as database:
            pending = {row[0] for row in database.execute("SELECT start FROM batch WHERE ready = 0")}
        database.close()
        for path in self.path(rank).glob("*.noise"):
            if int(path.stem) in pending:
                path.write_bytes(os.urandom(path.stat().st_size // 2))

    def fill(self, samples: int, *, crash: Crash | None = None) -> list[Any]:
        def job(pool: NoisePool, mesh: Mesh, noise: UniversalNoise) -> Any:
            reconcile(pool, mesh, peers=self.names)
            fill(pool, noise, PlaintextBackend(), mesh, samples=samples, peers=self.names)
            return pool.state()

        return self.run(job, crash=crash)

    def session(
        self,
        session: bytes,
        use: Callable[[PooledNoise, Mesh], Any],
        *,
        dimension: int,
        rounds: int,
        crash: Crash | None = None,
    ) -> list[Any]:
        """Run a session at every party."""

        def job(pool: NoisePool, mesh: Mesh, noise: UniversalNoise) -> Any:
            pool.release_others(session)
            arguments: Any = {"session": session, "dimension": dimension, "rounds": rounds, "peers": self.names}
            with session_noise(pool, noise, mesh, engine_unsafe, no_dealer, **arguments) as (_, source):
                try:
                    return use(source, mesh)
                finally:
                    pool.release(session)  # the session is over

        return self.run(job, crash=crash)
