"""A compute party: adds shares up, adds its share of the noise, and reveals only the noised sum.

It never knows which method runs: a round is "add these vectors, add noise number t, reveal".
"""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import structlog

from mpcdp.errors import LateUpload, MpcdpError, PeerTimeout, ProtocolError
from mpcdp.mpc.aggregation import RoundAgreement, check_same, share_of_sum
from mpcdp.mpc.backend import Backend, CorrelationSource, Mesh
from mpcdp.mpc.dealing import ReceivedCorrelations, schedule_digest
from mpcdp.mpc.noise_bank import NoisePool, NoiseSource, PerPartyNoise, PooledNoise, pool_folder, session_noise
from mpcdp.plan import Plan
from mpcdp.roles.journal import PartyJournal
from mpcdp.roles.session import Deadline, SessionMonitor, limits_of, waiting_seconds
from mpcdp.roles.training import History, owner_names, record_count
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.randomness import KEY_BYTES
from mpcdp.secret_sharing.shares import NoisedVector, SharedVector
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import Aggregate, DealRequest, Enrolment, NoiseUse, Outcome, Release, SessionRef, Upload

__all__ = ["ComputeParty", "Engine"]

_T = TypeVar("_T")
Engine = Callable[[Mesh, CorrelationSource | None], AbstractContextManager[Backend]]
"""Starts a secure computation over a mesh, with the dealer's correlations if the noise is joint."""

_log = structlog.get_logger("mpcdp.compute_party")


class ComputeParty:
    """Serve one session as a compute party (fits `mpcdp.transport.channel.ComputePartyService`).

    Requests arrive on the network's threads and only check, store and wait; the secure computation runs on the thread
    that calls `run`, because CrypTen's state is global to a process.

    Args:
        name: this party in the task.
        task: what everybody agreed on.
        plan: the task's plan.
        network: this process's access to the others.
        journal: what must not be forgotten.
        engine: starts the secure computation.

    Reveals:
        To the coordinator and the other compute parties: the noised sum of each round of the plan, nothing else.
    """

    def __init__(
        self, name: str, task: Task, plan: Plan, network: Network, journal: PartyJournal, engine: Engine
    ) -> None:
        self._name = name
        self._task = task
        self._plan = plan
        self._network = network
        self._journal = journal
        self._engine = engine
        self._parties = tuple(party.name for party in task.compute_parties)
        self._rank = self._parties.index(name)
        self._collects = self._rank == len(self._parties) - 1
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)
        self._monitor = SessionMonitor(task)
        self._opening: tuple[SessionRef, Future[None]] | None = None
        self._aggregating: tuple[Aggregate, Future[Release]] | None = None
        self._positions = {owner.name: position for position, owner in enumerate(task.owners)}
        self._enrolments: dict[int, Enrolment] = {}
        self._uploads: dict[int, Upload] = {}
        self._releases: History | None = None
        self._noise_use: NoiseUse | None = None

    # -- the role's own thread -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the coordinator closes the session, then destroy what is left of it.

        Raises:
            MpcdpError: the session failed; the error names the process and the cure.
        """
        with self._network.serve(self):
            _log.info("waiting for a session")
            self._monitor.wait_for(lambda: self._opening is not None, Deadline(waiting_seconds(self._task)))
            if self._opening is None:
                raise PeerTimeout(self._task.coordinator.name, "it opened no session in time: see its log")
            ref, opened = self._opening
            try:
                self._run_session(ref, opened)
            except MpcdpError as error:
                self._fail(error)
                raise
            except BaseException:
                self._fail(ProtocolError(f"internal error at {self._name}: see its log"))
                raise
            finally:
                self._journal.forget_shares(ref)

    def _run_session(self, ref: SessionRef, opened: "Future[None]") -> None:
        with ExitStack() as stack:
            # The engine must leave before the mesh: it may still have to say goodbye over it.
            mesh = stack.enter_context(self._network.mesh(ref, self._parties))
            check_same(mesh, "plan", self._plan.digest, peers=self._parties)
            backend, noise = stack.enter_context(self._prepare(ref, mesh))
            self._noise_use = _noise_use(noise)
            _log.info("prepared", session=ref.session.hex()[:16], rounds=self._plan.rounds)
            opened.set_result(None)
            for round_index in range(self._plan.rounds):
                self._run_round(ref, round_index, mesh, backend, noise)
            # The owners now compare what they were told with what was released, and only then does the coordinator end.
            if not self._monitor.wait_for(lambda: self._monitor.closed, Deadline(self._limits.message_seconds)):
                raise PeerTimeout(self._task.coordinator.name, "it did not end the session in time: see its log")
        _log.info("session finished", session=ref.session.hex()[:16])

    @contextmanager
    def _prepare(self, ref: SessionRef, mesh: Mesh) -> Iterator[tuple[Backend, NoiseSource]]:
        """Start the computation and have the noise of all rounds ready: from the pool, or each party's own."""
        plan = self._plan
        if self._task.dealer is None:
            with self._engine(mesh, None) as backend:
                yield backend, PerPartyNoise(plan.noise, dimension=plan.dimension, rounds=plan.rounds)
            return
        dealer = self._task.dealer.name
        folder = pool_folder(
            self._journal.folder,
            certificates=[party.certificate for party in self._task.compute_parties],
            rank=self._rank,
            distribution=plan.distribution,
            scale=plan.noise.scale,
        )
        with (
            NoisePool(folder) as pool,
            session_noise(
                pool,
                plan.noise,
                mesh,
                self._engine,
                lambda samples: self._ask_dealer(ref, dealer, samples),
                session=ref.session,
                dimension=plan.dimension,
                rounds=plan.rounds,
                peers=self._parties,
            ) as prepared,
        ):
            yield prepared

    def _ask_dealer(self, ref: SessionRef, dealer: str, samples: int) -> ReceivedCorrelations:
        schedule = self._plan.noise.schedule(samples) if samples else ()
        request = DealRequest(
            ref=ref,
            party=self._name,
            nonce=secrets.token_bytes(KEY_BYTES),
            batch="noise",
            samples=samples,
            schedule_digest=schedule_digest(schedule),
        )
        seed, corrections = self._network.dealer(dealer).deal(self._name, request)
        return ReceivedCorrelations(seed, corrections)

    @property
    def _history(self) -> History:
        if self._releases is None:
            raise ProtocolError("no session is open here")
        return self._releases

    def _next_call(self) -> Deadline:
        """The coordinator only turns a release into a model between two calls: if it takes long, it is gone."""
        return Deadline(self._task.deadlines.round_seconds)

    def _run_round(self, ref: SessionRef, round_index: int, mesh: Mesh, backend: Backend, noise: NoiseSource) -> None:
        asked = self._monitor.wait_for(lambda: self._aggregating is not None or self._monitor.closed, self._next_call())
        if not asked:
            raise PeerTimeout(
                self._task.coordinator.name, f"it did not ask for round {round_index} in time: see its log"
            )
        if self._aggregating is None:
            raise ProtocolError(f"{self._task.coordinator.name} closed the session before round {round_index}")
        request, answer = self._aggregating
        agreement = self._agree(request, mesh)
        total = self._share_of_sum(agreement)
        noised = NoisedVector.add(total, noise.take(round_index))
        # Two phases before a reveal: every party has written what it will open and for whom, and knows that all have.
        self._journal.bind_round(ref, round_index, agreement.to_bytes(), noised)
        check_same(mesh, "commit", hashlib.sha256(agreement.to_bytes()).digest(), peers=self._parties)
        release = Release(values=backend.reveal(noised), owners=agreement.owners)
        noise.forget(round_index)
        _log.info("revealed", round=round_index, owners=len(agreement.owners))
        with self._monitor.changed:
            self._uploads.clear()
            self._history.append(release)
            self._aggregating = None
        answer.set_result(release)

    def _agree(self, request: Aggregate, mesh: Mesh) -> RoundAgreement:
        """Settle the round's owners: those who uploaded to the last party and had enrolled at every other one."""
        message = self._collect(request).to_bytes() if self._collects else self._wait_for_enrolments(request).to_bytes()
        *enrolled, proposal = mesh.exchange("agree", message)
        proposer = self._parties[-1]
        agreement = RoundAgreement.from_bytes(bytes(proposal), proposer=proposer)
        with self._monitor.changed:
            expected = (request.ref.session, self._plan.digest, self._history.digest, request.round_index)
        if (agreement.session, agreement.plan_digest, agreement.history, agreement.round_index) != expected:
            raise ProtocolError(
                f"{proposer} proposes another session, plan or round than this party's, or knows of other releases"
            )
        for party, bitmap in zip(self._parties, enrolled, strict=False):
            agreement = agreement.restricted_to(_owner_set(bytes(bitmap), party))
        self._check_owner_set(agreement.owners)
        return agreement

    def _check_owner_set(self, owners: OwnerSet) -> None:
        if not owners <= self._enrolled():
            raise ProtocolError("the round's owner set has strangers: run the same version of mpcdp everywhere")
        if record_count(self._task, owners) < self._plan.minimum_records:
            raise ProtocolError(
                f"the owners left have {record_count(self._task, owners)} records, fewer than the task's "
                f"{self._plan.minimum_records}: see the logs of those that are missing"
            )
        if len(owners) < self._plan.minimum_owners:
            raise ProtocolError(
                f"only {len(owners)} owners both uploaded and enrolled at every compute party, fewer than the task's "
                f"{self._plan.minimum_owners}: see the logs of the others"
            )

    def _enrolled(self) -> OwnerSet:
        with self._monitor.changed:
            return OwnerSet.of(self._enrolments)

    def _wait_for_enrolments(self, request: Aggregate) -> OwnerSet:
        """Wait for the keys of the owners the coordinator expects, as long as the last party waits for their shares."""
        deadline = Deadline(self._task.deadlines.contribution_seconds)
        self._monitor.wait_for(lambda: request.owners <= self._enrolled(), deadline)
        return self._enrolled()

    def _collect(self, request: Aggregate) -> RoundAgreement:
        """Wait for the uploads of the owners the coordinator expects, until the contribution deadline."""
        deadline = Deadline(self._task.deadlines.contribution_seconds)
        expected = set(request.owners)
        self._monitor.wait_for(lambda: self._uploads.keys() >= expected, deadline)
        with self._monitor.changed:
            owners = OwnerSet.of(self._uploads)
            nonces = tuple(self._uploads[position].nonce for position in owners)
            history = self._history.digest
        if len(owners) < self._plan.minimum_owners:
            missing = owner_names(self._task, request.owners - owners)
            raise PeerTimeout(
                ", ".join(missing) or "owners",
                f"nothing arrived within {self._task.deadlines.contribution_seconds:g} s, and only {len(owners)} "
                f"of the {self._plan.minimum_owners} owners the task needs are left: see the owner's log",
            )
        return RoundAgreement(
            session=request.ref.session,
            plan_digest=self._plan.digest,
            history=history,
            round_index=request.round_index,
            owners=owners,
            nonces=nonces,
        )

    def _share_of_sum(self, agreement: RoundAgreement) -> SharedVector:
        with self._monitor.changed:
            if self._collects:
                shares = [SharedVector(self._uploads[position].values) for position in agreement.owners]
                return SharedVector.total(shares, dimension=self._plan.dimension)
            keys = {position: self._enrolments[position].key for position in agreement.owners}
        return share_of_sum(agreement, keys, dimension=self._plan.dimension)

    def _fail(self, error: MpcdpError) -> None:
        """Hand the error to whoever waits for an answer, and refuse everything that comes later."""
        with self._monitor.changed:
            waiting = [entry[1] for entry in (self._opening, self._aggregating) if entry is not None]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        self._monitor.close(str(error))

    # -- requests --------------------------------------------------------------------------------------------------

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Start preparing a session; return once its noise is ready."""
        self._monitor.check_task(ref.task_digest)
        self._journal.check_unused(ref)
        with self._monitor.changed:
            self._monitor.open(ref)
            if self._opening is None:
                self._opening, self._releases = (ref, Future()), History(ref, self._plan.digest)
            prepared = self._opening[1]
            self._monitor.changed.notify_all()
        self._wait_for(prepared, self._limits.prepare_seconds)

    def enrol(self, caller: str, enrolment: Enrolment) -> NoiseUse | None:
        """Take an owner's key, after binding the task digest to this session for good."""
        self._monitor.check(enrolment.ref)
        position = self._position_of(caller)
        expected = 0 if self._collects else KEY_BYTES
        if len(enrolment.key) != expected:
            raise ProtocolError(f"{caller}: this party takes a key of {expected} bytes, not {len(enrolment.key)}")
        self._journal.bind_session(enrolment.ref)
        with self._monitor.changed:
            if self._enrolments.setdefault(position, enrolment) != enrolment:
                raise ProtocolError(f"{caller} has already enrolled with another key")
            self._monitor.changed.notify_all()
        _log.info("owner enrolled", owner=caller)
        return self._noise_use

    def _position_of(self, owner: str) -> int:
        position = self._positions.get(owner)
        if position is None:
            raise ProtocolError(f"{owner} is no owner of this task")
        return position

    def upload(self, caller: str, upload: Upload) -> None:
        """Take an owner's share of the current round; the same bytes again change nothing."""
        self._monitor.check(upload.ref)
        if not self._collects:
            raise ProtocolError(f"shares of a round are uploaded to {self._parties[-1]}, the last compute party")
        if upload.values.shape != (self._plan.dimension,):
            raise ProtocolError(f"{caller}: the share has {upload.values.size} coordinates, not {self._plan.dimension}")
        position = self._position_of(caller)
        with self._monitor.changed:
            self._check_upload(caller, position, upload)
            known = self._uploads.setdefault(position, upload)
            if known.nonce != upload.nonce or (known.values != upload.values).any():
                raise ProtocolError(f"{caller} has already uploaded another share for round {upload.round_index}")
            self._monitor.changed.notify_all()
        _log.info("share received", owner=caller, round=upload.round_index)

    def _check_upload(self, caller: str, position: int, upload: Upload) -> None:
        current = self._history.rounds
        if position not in self._enrolments:
            raise ProtocolError(f"{caller} has not enrolled in this session")
        if upload.round_index < current:
            raise LateUpload(f"{caller}: the share is for round {upload.round_index}, which is over: upload sooner")
        if upload.round_index > current:
            raise ProtocolError(f"{caller}: the share is for round {upload.round_index}, this is round {current}")
        if upload.history != self._history.digest:
            raise ProtocolError(
                f"{caller}: the share was computed after other releases than this party's; "
                f"{self._task.coordinator.name} told the owner something else than was released"
            )

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        """Tell an owner what was released so far."""
        self._monitor.check(ref)
        with self._monitor.changed:
            return self._history.outcome

    def aggregate(self, caller: str, request: Aggregate) -> Release:
        """Run the next round of the plan and return what was revealed."""
        self._monitor.check(request.ref)
        with self._monitor.changed:
            current = self._history.rounds
            if request.round_index != current or request.round_index >= self._plan.rounds:
                raise ProtocolError(
                    f"round {request.round_index} is not next: of {self._plan.rounds} rounds, each once, "
                    f"round {current} is"
                )
            if self._aggregating is not None:
                raise ProtocolError(f"round {request.round_index} is already running")
            answer: Future[Release] = Future()
            self._aggregating = (request, answer)
            self._monitor.changed.notify_all()
        return self._wait_for(answer, self._limits.message_seconds)

    def _wait_for(self, future: "Future[_T]", seconds: float) -> _T:
        """Wait for what the role's own thread answers."""
        try:
            return future.result(seconds)
        except TimeoutError:
            raise PeerTimeout(self._name, f"it was not ready within {seconds:g} s: see its log") from None

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session."""
        self._monitor.end(ref, reason)


def _owner_set(bitmap: bytes, party: str) -> OwnerSet:
    try:
        return OwnerSet.from_bytes(bitmap)
    except ValueError:
        raise ProtocolError(
            f"{party} sent a malformed set of owners: run the same version of mpcdp everywhere"
        ) from None


def _noise_use(noise: NoiseSource) -> NoiseUse | None:
    if not isinstance(noise, PooledNoise):
        return None
    return NoiseUse(bank=noise.range.bank, start=noise.range.start, end=noise.range.end)
