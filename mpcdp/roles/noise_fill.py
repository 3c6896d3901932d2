"""Filling the noise pools between sessions: the compute parties and the dealer together, without a coordinator.

The reference that stands in their messages is the same for every filling of a task. Nothing is fresh because of it:
seeds, coins and ids come from what every process draws anew.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import structlog

from mpcdp.errors import ConfigError, ProtocolError
from mpcdp.mpc.aggregation import check_same
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.dealing import ReceivedCorrelations, schedule_digest
from mpcdp.mpc.noise import Distribution, UniversalNoise, universal_noise
from mpcdp.mpc.noise_bank import NoisePool, PoolState, fill, pool_folder, reconcile, whole_blocks
from mpcdp.plan import Plan
from mpcdp.roles.dealing_desk import DealingDesk
from mpcdp.roles.session import SessionMonitor, limits_of, waiting_seconds
from mpcdp.secret_sharing.randomness import KEY_BYTES
from mpcdp.task import Task
from mpcdp.transport.channel import Limits, Network
from mpcdp.transport.messages import DealRequest, SessionRef

__all__ = ["FillDealer", "FillJob", "FillParty", "Filled", "pool_of"]

_BATCH_SAMPLES = 1 << 20
"""What is lost when a filling is interrupted."""

_SLOWEST_PER_SECOND = 2_000
"""Samples per second that deadlines allow for: an order of magnitude below what small machines make."""

Progress = Callable[[int], None]
"""Told how many samples were made since it was told before."""

_log = structlog.get_logger("mpcdp.noise_fill")


def pool_of(task: Task, party: str, state: Path, distribution: Distribution) -> Path:
    """Return the folder of a compute party's pool for one law of joint noise, whether it exists or not.

    Args:
        task: names the compute parties.
        party: whose pool.
        state: the party's state folder.
        distribution: of the noise.
    """
    parties = task.compute_parties
    return pool_folder(
        state,
        certificates=[member.certificate for member in task.members() if member.role == "compute"],
        rank=[member.name for member in parties].index(party),
        distribution=distribution,
        scale=universal_noise(distribution, "joint").scale,
    )


@dataclass(frozen=True)
class FillJob:
    """What all processes of a filling have to agree on.

    Args:
        task: names the processes.
        plan: the task's plan.
        distribution: of the noise.
        samples: how many to add to every pool; rounded up to whole blocks.

    Raises:
        ConfigError: the task has no dealer, so nothing can be prepared, or no samples are asked for.
    """

    task: Task
    plan: Plan
    distribution: Distribution
    samples: int

    def __post_init__(self) -> None:
        if self.task.dealer is None:
            raise ConfigError(
                f"task {self.task.name!r} has no dealer: per-party noise needs none and is sampled in the session"
            )
        if self.samples < 1:
            raise ConfigError(f"samples: expected a positive number, got {self.samples}")
        object.__setattr__(self, "samples", whole_blocks(self.samples))

    @property
    def noise(self) -> UniversalNoise:
        """The noise that is made."""
        return universal_noise(self.distribution, "joint")

    @property
    def parties(self) -> tuple[str, ...]:
        """Names of the compute parties, in rank order."""
        return tuple(party.name for party in self.task.compute_parties)

    @property
    def batches(self) -> Mapping[str, int]:
        """Names and sizes of the batches, in order."""
        starts = range(0, self.samples, _BATCH_SAMPLES)
        return {f"fill-{index}": min(_BATCH_SAMPLES, self.samples - at) for index, at in enumerate(starts)}

    @property
    def ref(self) -> SessionRef:
        """What stands in the messages of every filling of the task; no session ever has it."""
        session = hashlib.sha256(b"mpcdp/1/noise-fill" + self.task.digest).digest()
        return SessionRef(task_digest=self.task.digest, session=session)

    @property
    def digest(self) -> bytes:
        """SHA-256 of law and number; 32 bytes."""
        agreed = f"{self.distribution} {self.noise.scale} {self.samples}"
        return hashlib.sha256(b"mpcdp/1/noise-fill" + agreed.encode()).digest()

    @property
    def limits(self) -> Limits:
        """Bounds on messages and deadlines of a filling."""
        usual = limits_of(self.task, dimension=self.plan.dimension, rounds=self.plan.rounds)
        return replace(
            usual,
            prepare_seconds=usual.prepare_seconds + min(self.samples, _BATCH_SAMPLES) / _SLOWEST_PER_SECOND,
            session_seconds=usual.session_seconds + self.samples / _SLOWEST_PER_SECOND,
        )


@dataclass(frozen=True)
class Filled:
    """How a filling went.

    Args:
        samples: how many were made.
        seconds: from all parties ready to all batches on all disks.
        state: of this party's pool.
    """

    samples: int
    seconds: float
    state: PoolState


class FillParty:
    """A compute party that fills its pool (fits `mpcdp.transport.channel.ComputePartyService`, and refuses it all).

    Args:
        name: this party in the task.
        job: what to make.
        network: this process's access to the others, within the job's limits.
        state: this party's state folder.
        engine: starts the secure computation.
        progress: told of every chunk.
    """

    def __init__(
        self,
        name: str,
        job: FillJob,
        network: Network,
        state: Path,
        engine: Callable[[Mesh, CorrelationSource | None], AbstractContextManager[Backend]],
        *,
        progress: Progress = lambda made: None,
    ) -> None:
        self._name = name
        self._job = job
        self._network = network
        self._folder = pool_of(job.task, name, state, job.distribution)
        self._engine = engine
        self._progress = progress

    def run(self) -> Filled:
        """Fill the pool together with the other parties; what is not on all disks at the end is nobody's.

        Raises:
            ConfigError: another process uses the pool, or its disk failed.
            ProtocolError: the pools do not belong together, or somebody fills something else.
            PeerError: a party or the dealer failed.
        """
        job = self._job
        with (
            NoisePool(self._folder) as pool,
            self._network.serve(self),
            self._network.mesh(job.ref, job.parties) as mesh,
        ):
            check_same(mesh, "noise fill", job.digest, peers=job.parties)
            reconcile(pool, mesh, peers=job.parties)
            start = time.monotonic()
            for batch, samples in job.batches.items():
                source = self._ask_dealer(batch, samples)
                with self._engine(mesh, source) as backend:
                    fill(
                        pool,
                        job.noise,
                        backend,
                        mesh,
                        samples=samples,
                        peers=job.parties,
                        progress=self._progress,
                        finish=source.finish,
                    )
                _log.info("filled", batch=batch, samples=samples)
            return Filled(job.samples, time.monotonic() - start, pool.state())

    def _ask_dealer(self, batch: str, samples: int) -> ReceivedCorrelations:
        if self._job.task.dealer is None:
            raise ConfigError(f"task {self._job.task.name!r} has no dealer")
        request = DealRequest(
            ref=self._job.ref,
            party=self._name,
            nonce=secrets.token_bytes(KEY_BYTES),
            batch=batch,
            schedule_digest=schedule_digest(self._job.noise.schedule(samples)),
            samples=samples,
        )
        return ReceivedCorrelations(*self._network.dealer(self._job.task.dealer.name).deal(self._name, request))

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ProtocolError(f"{self._name} fills its noise pool: start the session when `mpcdp noise fill` has ended")

    open_session = enrol = upload = outcome = aggregate = close_session = _refuse


class FillDealer:
    """The dealer of a filling (fits `mpcdp.transport.channel.DealerService`).

    Args:
        job: what is made.
        network: this process's access to the others, within the job's limits.
        progress: told of every batch.
    """

    def __init__(self, job: FillJob, network: Network, *, progress: Progress = lambda made: None) -> None:
        self._job = job
        self._network = network
        self._progress = progress
        self._monitor = SessionMonitor(job.task)
        self._monitor.open(job.ref)
        self._desk = DealingDesk(
            job.parties, self._monitor, seconds=job.task.deadlines.start_seconds + job.limits.prepare_seconds
        )

    def run(self) -> float:
        """Serve until every party has been dealt every batch.

        Returns:
            Seconds, with the time until the parties came.

        Raises:
            PeerTimeout: a party did not take its share in time.
        """
        job = self._job
        start = time.monotonic()
        with self._network.serve(self):
            for batch, samples in job.batches.items():
                self._desk.wait_until_dealt(batch, seconds=waiting_seconds(job.task) + job.limits.prepare_seconds)
                self._progress(samples)
                _log.info("dealt", batch=batch, samples=samples)
        return time.monotonic() - start

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        """Wait for every party's request, then return this party's seed and, for rank 0, the corrections.

        Raises:
            ProtocolError: the party fills something else, or asks twice.
            PeerTimeout: a party did not ask in time.
        """
        self._monitor.check(request.ref)
        samples = self._job.batches.get(request.batch)
        if samples is None or request.samples != samples:
            raise ProtocolError(
                f"{caller} fills another number of samples than the dealer: run `mpcdp noise fill` with the same "
                "--samples and --distribution everywhere"
            )
        return self._desk.deal(caller, request, self._job.noise.schedule(samples))

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise ProtocolError("the dealer fills noise pools: start the session when `mpcdp noise fill` has ended")

    open_session = close_session = _refuse
