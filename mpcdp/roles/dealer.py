"""The dealer: hands correlated randomness to the compute parties and never sees a share, a vector or noise."""

from collections.abc import Iterator

import structlog

from mpcdp.errors import PeerTimeout, ProtocolError
from mpcdp.mpc.dealing import batch_seeds, deal, schedule_digest
from mpcdp.mpc.noise_bank import whole_blocks
from mpcdp.plan import Plan
from mpcdp.roles.session import Deadline, SessionMonitor, limits_of, waiting_seconds
from mpcdp.secret_sharing.randomness import random_key
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import DealRequest, SessionRef

__all__ = ["Dealer"]

_log = structlog.get_logger("mpcdp.dealer")


class Dealer:
    """Serve one session as its dealer (fits `mpcdp.transport.channel.DealerService`).

    Args:
        task: what everybody agreed on.
        plan: the task's plan, which fixes how much randomness is dealt.
        network: this process's access to the others.

    Guarantees:
        Every batch is dealt once, from a secret drawn for it alone and from all parties' nonces; nothing is stored.
    """

    def __init__(self, task: Task, plan: Plan, network: Network) -> None:
        self._task = task
        self._plan = plan
        self._network = network
        self._monitor = SessionMonitor(task)
        self._parties = tuple(party.name for party in task.compute_parties)
        self._nonces: dict[str, bytes] = {}
        self._seeds: tuple[bytes, ...] = ()
        self._samples = 0
        self._dealt: set[str] = set()
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)

    def run(self) -> None:
        """Serve until every party has been dealt everything: the rest of the session needs no dealer.

        Raises:
            PeerTimeout: no session was opened, or it was not used, in time.
            SessionAborted: the coordinator ended the session before.
        """
        with self._network.serve(self):
            _log.info("waiting for a session")
            if not self._monitor.wait_for(lambda: self._monitor.opened, Deadline(waiting_seconds(self._task))):
                raise PeerTimeout(self._task.coordinator.name, "it opened no session in time: see its log")
            deadline = Deadline(self._limits.prepare_seconds)
            if not self._monitor.wait_for(lambda: self._dealt == set(self._parties), deadline):
                missing = next(party for party in self._parties if party not in self._dealt)
                raise PeerTimeout(missing, "it did not take its correlated randomness in time: see its log")
        _log.info("session finished")

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Bind the dealer to a session."""
        self._monitor.open(ref)
        _log.info("session opened", session=ref.session.hex()[:16])

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        """Wait for every party's request, then return this party's seed and, for rank 0, the corrections.

        Raises:
            ProtocolError: another session, batch or schedule, or a second request.
            PeerTimeout: a party did not ask in time.
        """
        self._monitor.check(request.ref)
        if request.batch != "noise":
            raise ProtocolError(f"there is no batch named {request.batch!r} in this task")
        largest = whole_blocks(self._plan.dimension * self._plan.rounds)
        if request.samples > largest:
            raise ProtocolError(f"{caller} asks for {request.samples} samples of noise, the task needs {largest}")
        schedule = self._plan.noise.schedule(request.samples) if request.samples else ()
        if request.schedule_digest != schedule_digest(schedule):
            raise ProtocolError("the batch does not fit the dealer's plan: run the same version of mpcdp everywhere")
        with self._monitor.changed:
            if caller in self._nonces:
                raise ProtocolError(f"{caller} has already been dealt this batch, and a batch is dealt once")
            if request.samples != self._samples and self._nonces:
                raise ProtocolError(
                    f"{caller} asks for {request.samples} samples of noise, another party for {self._samples}: "
                    "see the compute parties' logs"
                )
            self._nonces[caller], self._samples = request.nonce, request.samples
            if len(self._nonces) == len(self._parties):
                nonces = [self._nonces[party] for party in self._parties]
                self._seeds = batch_seeds(random_key(), nonces, request.ref.session, request.batch)
            self._monitor.changed.notify_all()
        if not self._monitor.wait_for(lambda: bool(self._seeds), Deadline(self._task.deadlines.start_seconds)):
            missing = next(party for party in self._parties if party not in self._nonces)
            raise PeerTimeout(missing, "it did not ask the dealer for correlated randomness in time: see its log")
        rank = self._parties.index(caller)
        _log.info("dealing", party=caller, batch=request.batch)
        return self._seeds[rank], self._stream(caller, deal(schedule, self._seeds) if rank == 0 else iter(()))

    def _stream(self, party: str, corrections: Iterator[bytes]) -> Iterator[bytes]:
        yield from corrections
        with self._monitor.changed:
            self._dealt.add(party)
            self._monitor.changed.notify_all()

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session."""
        self._monitor.end(ref, reason)
