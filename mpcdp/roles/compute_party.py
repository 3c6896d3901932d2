"""A compute party: adds shares up, adds its share of the noise, and reveals only the noised sum.

A session is a series of *attempts*: connect, compare (`mpcdp.roles.resume`), prepare the noise, run rounds. One attempt
is enough unless a process is lost. Then the attempt ends, and the next one goes on from what is in the parties'
journals, no matter which process was lost, how many were, and whether this one was among them: there is no other way.
"""

import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import InvalidStateError
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import structlog

from mpcdp.errors import (
    MpcdpError,
    PeerError,
    PeerTimeout,
    ProcessStopped,
    ProtocolError,
    RefusedError,
    SessionAborted,
)
from mpcdp.mpc.aggregation import check_same
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.noise_bank import NoisePool, NoiseSource, PerPartyNoise, PooledNoise, pool_folder, session_noise
from mpcdp.plan import Plan
from mpcdp.roles.journal import PartyJournal, StoredRelease
from mpcdp.roles.party_rounds import PartyRounds
from mpcdp.roles.resume import NO_NOISE, Course, Standing, meet, read_release, settle, write_release
from mpcdp.roles.session import Deadline, Patience, waiting_seconds
from mpcdp.roles.training import History
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import NoiseUse, SessionRef

__all__ = ["ComputeParty", "Engine"]

Engine = Callable[[Mesh, CorrelationSource | None], AbstractContextManager[Backend]]
"""Starts a secure computation over a mesh, with the dealer's correlations if the noise is joint."""

_log = structlog.get_logger("mpcdp.compute_party")


class ComputeParty(PartyRounds):
    """Serve one session as a compute party, from its beginning or from where an earlier process of this party was.

    The secure computation runs on the thread that calls `run`, because CrypTen's state is global to a process.

    Args:
        name: this party in the task.
        task: what everybody agreed on.
        plan: the task's plan.
        network: this process's access to the others.
        journal: what must not be forgotten.
        engine: starts the secure computation.

    Reveals:
        To the coordinator and the other compute parties: the noised sum of each round of the plan and, if the task has
        a contribution check, whether each contribution passed it; nothing else.
    """

    def __init__(
        self, name: str, task: Task, plan: Plan, network: Network, journal: PartyJournal, engine: Engine
    ) -> None:
        super().__init__(name, task, plan, network, journal)
        self._engine = engine
        self._patience = Patience(waiting_seconds(task))

    def run(self) -> None:
        """Serve until the coordinator closes the session, then destroy what is left of it.

        Raises:
            SessionAborted: the session failed, now or before this process was started.
            MpcdpError: the session failed; the error names the process and the cure.
            ProcessStopped: this process was asked to end; it goes on when it is started again.
        """
        stored = self._journal.stored(self._task.digest)
        if stored is not None and stored.over:
            self._destroy(stored.ref, stored.reason)
            if stored.reason is not None:
                raise SessionAborted(f"the session of this task is over, it failed: {stored.reason}")
            _log.info("the session of this task is over", session=stored.ref.session.hex()[:16])
            return
        if stored is not None:
            self._known = stored.ref
            if stored.begun:
                _log.info("going on", session=stored.ref.session.hex()[:16], rounds=stored.outcome.rounds)
                self._take(stored.ref)
        with self._network.serve(self):
            try:
                self._run_session(self._wait_for_session())
            except BaseException as error:
                reason = self._monitor.reason
                self._leave(error)
                if reason is not None and not isinstance(error, SessionAborted | ProcessStopped):
                    raise SessionAborted(reason) from error  # what happened here is a consequence
                raise

    def _wait_for_session(self) -> SessionRef:
        _log.info("waiting for a session")
        self._monitor.wait_for(lambda: self._ref is not None, Deadline(waiting_seconds(self._task)))
        if self._ref is None:
            raise PeerTimeout(self._task.coordinator.name, "it opened no session in time: see its log")
        return self._ref

    def _leave(self, error: BaseException) -> None:
        """End this process's part: for good if nothing would help, else so that it goes on when it is started again."""
        if isinstance(error, RefusedError | PeerError | SessionAborted):
            self._fail(error)
            if (ref := self._ref or self._known) is not None:
                self._destroy(ref, self._monitor.reason or str(error))
        elif isinstance(error, ProcessStopped):
            self._fail(error)
        else:
            problem = str(error) if isinstance(error, MpcdpError) else "internal error: see its log, and start it again"
            self._fail(ProcessStopped(f"{self._name}: {problem}"))

    def _destroy(self, ref: SessionRef, reason: str | None) -> None:
        """Note that a session is over and destroy its keys, shares and noise; again, it changes nothing."""
        self._journal.end(ref, reason)
        if self._task.dealer is not None:
            with NoisePool(self._pool_folder()) as pool:
                pool.release(ref.session)

    # -- attempts --------------------------------------------------------------------------------------------------

    def _run_session(self, ref: SessionRef) -> None:
        while not self._over():
            try:
                self._attempt(ref)
            except PeerError as error:
                # When the session has ended well: everybody is told so one after the other, and the first ones need not
                # wait for the last.
                if self._over():
                    break
                if not self._patience.allows(error):
                    raise
                _log.warning("another process is away, trying again", problem=str(error))
                # Not all at the same moment again.
                self._monitor.pause(0.1 + secrets.randbelow(200) / 1000)
        self._destroy(ref, None)
        _log.info("session finished", session=ref.session.hex()[:16])

    def _over(self) -> bool:
        return self._monitor.finished

    def _attempt(self, ref: SessionRef) -> None:
        """Take the session from where all parties together are to its end."""
        with ExitStack() as stack:
            # The engine must leave before the mesh: it may still have to say goodbye over it.
            mesh = stack.enter_context(self._network.mesh(ref, self._parties, self._watch()))
            check_same(mesh, "plan", self._plan.digest, peers=self._parties)
            name, standings = meet(mesh, self._standing(), peers=self._parties)
            course = settle(standings, self._parties, own_copies=self._task.dealer is None)
            self._attempt_name = name
            self._catch_up(ref, mesh, course)
            backend, noise = stack.enter_context(self._prepare(ref, mesh, course, name))
            self._be_ready(ref, course, noise)
            for round_index in range(course.outcome.rounds, self._plan.rounds):
                self._run_round(ref, round_index, mesh, backend, noise)
            # The owners now compare what they were told with what was released, and only then does the coordinator end.
            deadline = Deadline(max(self._limits.message_seconds, waiting_seconds(self._task)))
            if not self._wait(lambda: self._monitor.closed, deadline):
                raise PeerTimeout(
                    self._task.coordinator.name, "it did not end the session in time: see its log", final=True
                )

    def _watch(self) -> Callable[[MpcdpError], None]:
        """Return what notes the loss of another party, so that whoever waits for something else notices."""
        watch = object()
        with self._monitor.changed:
            self._lost, self._watching = None, watch

        def lose(error: MpcdpError) -> None:
            with self._monitor.changed:
                if self._watching is watch and self._lost is None:
                    self._lost = error
                    self._monitor.changed.notify_all()

        return lose

    def _standing(self) -> Standing:
        with self._monitor.changed:
            history, use, bound, begun = self._history, self._noise_use, self._bound, self._begun
        open_round = bound is not None and bound.round_index == history.rounds
        return Standing(
            begun=begun,
            outcome=history.outcome,
            noise=(use.bank, use.start) if begun and use is not None else NO_NOISE,
            agreement=bound.agreement if bound is not None and open_round else b"",
            committed=bound is not None and open_round and bound.agreement == self._committed,
        )

    def _catch_up(self, ref: SessionRef, mesh: Mesh, course: Course) -> None:
        """Hand the last release on to those that miss it. One round, if any party does."""
        if not course.behind:
            return
        with self._monitor.changed:
            mine, last = self._history.outcome, self._last
        leads = self._rank == course.leader and last is not None
        payloads = mesh.exchange("catch up", write_release(last.release if leads and last is not None else None))
        if mine == course.outcome:
            return
        leader = self._parties[course.leader]
        release = read_release(bytes(payloads[course.leader]), dimension=self._plan.dimension, sender=leader)
        history = History(ref, self._plan.digest, mine)
        history.append(release)
        if mine.rounds + 1 == course.outcome.rounds and history.outcome != course.outcome:
            raise ProtocolError(f"{leader} knows of other releases than {self._name}: agree on a new task")
        _log.info("caught up", rounds=course.outcome.rounds, missed=course.outcome.rounds - mine.rounds)
        self._record(ref, StoredRelease(course.outcome.rounds - 1, None, release), course.outcome)

    def _be_ready(self, ref: SessionRef, course: Course, noise: NoiseSource) -> None:
        """Let requests in, now that this party knows what the others know."""
        use = _noise_use(noise)
        if use is not None:
            if course.begun and course.noise != (use.bank, use.start):
                raise ProtocolError("owners were told of other noise than the pools have: agree on a new task")
            self._journal.note_noise(ref, use)
        if course.outcome.rounds:
            noise.forget(course.outcome.rounds - 1)
        with self._monitor.changed:
            self._noise_use, self._adopted = use, course.agreement
            if course.agreement is not None:
                self._agreed = dict(course.agreement.contributions())
        with suppress(InvalidStateError):  # the session was ended at this moment
            self._ready.set_result(None)
        self._patience.renew()
        _log.info("prepared", session=ref.session.hex()[:16], rounds=self._plan.rounds - course.outcome.rounds)

    # -- noise -----------------------------------------------------------------------------------------------------

    def _pool_folder(self) -> Path:
        return pool_folder(
            self._journal.folder,
            certificates=[party.certificate for party in self._task.compute_parties],
            rank=self._rank,
            distribution=self._plan.distribution,
            scale=self._plan.noise.scale,
        )

    @contextmanager
    def _prepare(self, ref: SessionRef, mesh: Mesh, course: Course, name: str) -> Iterator[tuple[Backend, NoiseSource]]:
        """Start the computation and have the noise of all rounds ready: from the pool, or each party's own."""
        plan = self._plan
        if self._task.dealer is None:
            first = course.outcome.rounds
            with self._engine(mesh, None) as backend:
                yield backend, PerPartyNoise(plan.noise, dimension=plan.dimension, rounds=plan.rounds, first=first)
            return
        with NoisePool(self._pool_folder()) as pool:
            pool.release_others(ref.session)
            with session_noise(
                pool,
                plan.noise,
                mesh,
                self._engine,
                lambda samples: self._ask_dealer(ref, f"noise-{name}", samples, plan.noise.schedule(samples)),
                session=ref.session,
                dimension=plan.dimension,
                rounds=plan.rounds,
                peers=self._parties,
                begun=course.begun,
            ) as prepared:
                yield prepared


def _noise_use(noise: NoiseSource) -> NoiseUse | None:
    if not isinstance(noise, PooledNoise):
        return None
    return NoiseUse(bank=noise.range.bank, start=noise.range.start, end=noise.range.end)
