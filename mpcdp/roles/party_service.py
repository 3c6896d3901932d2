"""What others ask of a compute party, and what their requests leave behind for the role's own thread."""

from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

import structlog

from mpcdp.errors import LateUpload, MpcdpError, PeerTimeout, ProcessStopped, ProtocolError, SessionAborted
from mpcdp.mpc.aggregation import RoundAgreement
from mpcdp.plan import Plan
from mpcdp.roles.journal import Bound, PartyJournal, StoredRelease
from mpcdp.roles.session import SessionMonitor, limits_of, waiting_seconds
from mpcdp.roles.training import History
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.randomness import KEY_BYTES
from mpcdp.task import Task
from mpcdp.transport.channel import Network
from mpcdp.transport.messages import Aggregate, Enrolment, NoiseUse, Outcome, Release, SessionRef, Upload
from mpcdp.transport.waiting import wait_with_caller

__all__ = ["PartyService"]

_T = TypeVar("_T")
_log = structlog.get_logger("mpcdp.compute_party")


class PartyService:
    """Answer the requests of a session (fits `mpcdp.transport.channel.ComputePartyService`).

    Requests arrive on the network's threads and only check, store and wait. All of them may be repeated: a caller whose
    connection broke does, and so does one whose process, or whose peer's process, was started again.

    Args:
        name: this party in the task.
        task: what everybody agreed on.
        plan: the task's plan.
        network: this process's access to the others.
        journal: what must not be forgotten.
    """

    def __init__(self, name: str, task: Task, plan: Plan, network: Network, journal: PartyJournal) -> None:
        self._name = name
        self._task = task
        self._plan = plan
        self._network = network
        self._journal = journal
        self._parties = tuple(party.name for party in task.compute_parties)
        self._rank = self._parties.index(name)
        self._collects = self._rank == len(self._parties) - 1
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)
        self._monitor = SessionMonitor(task)
        self._positions = {owner.name: position for position, owner in enumerate(task.owners)}
        # All of this is read and changed while the monitor's condition is held.
        self._ref: SessionRef | None = None
        self._known: SessionRef | None = None
        self._begun = False
        self._releases: History | None = None
        self._last: StoredRelease | None = None
        self._bound: Bound | None = None
        self._committed = b""
        self._adopted: RoundAgreement | None = None
        self._agreed: dict[int, bytes] = {}
        self._enrolments: dict[int, Enrolment] = {}
        self._noise_use: NoiseUse | None = None
        self._uploads: dict[int, Upload] = {}
        self._wanted = 0
        self._asked: tuple[Aggregate, Future[Release]] | None = None
        self._ready: Future[None] = Future()
        self._round_bound: Future[OwnerSet] = Future()

    # -- sessions --------------------------------------------------------------------------------------------------

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Start preparing a session; return once its noise is ready."""
        self._monitor.check_task(ref.task_digest)
        self._take(ref)
        self._wait_for(self._ready)

    def _take(self, ref: SessionRef) -> None:
        """Take part in a session from where this party's journal is: from the beginning, if it is new."""
        with self._monitor.changed:
            if self._ref is None and not self._monitor.closed:
                first = History(ref, self._plan.digest)
                self._journal.open_session(ref, first.digest)
                stored = self._journal.stored(ref.task_digest)
                self._releases = first if stored is None else History(ref, self._plan.digest, stored.outcome)
                self._noise_use, self._begun = (None, False) if stored is None else (stored.noise, stored.begun)
                self._enrolments = self._journal.enrolments(ref)
                self._bound, self._last = self._journal.bound(ref), self._journal.released(ref)
                if self._bound is not None and self._bound.round_index == self._journal.bound_by_all(ref):
                    self._committed = self._bound.agreement
                self._ref = ref
            self._monitor.open(ref)

    def _check(self, ref: SessionRef) -> None:
        """Refuse a message about another session; one about the session this party was in when it ended opens it."""
        with self._monitor.changed:
            if self._ref is None and ref == self._known:
                self._take(ref)
            self._monitor.check(ref)

    @property
    def _history(self) -> History:
        if self._releases is None:
            raise ProtocolError("no session is open here")
        return self._releases

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session; its keys and shares are destroyed before this returns."""
        with self._monitor.changed:
            left = self._releases is not None and self._releases.rounds < self._plan.rounds
            if reason is None and left and not self._monitor.closed:
                reason = f"{caller or self._task.coordinator.name} closed the session before its last round"
            self._monitor.end(ref, reason)
            if self._ref is not None or self._known == ref:
                self._journal.end(ref, reason)
        if reason is not None:
            self._interrupt(SessionAborted(reason))

    def _interrupt(self, error: MpcdpError) -> None:
        """Let everybody go who waits here: requests, and the role's own thread where it waits for other parties."""
        with self._monitor.changed:
            waiting: list[Future[None] | Future[Release] | Future[OwnerSet]] = [self._ready, self._round_bound]
            if self._asked is not None:
                waiting.append(self._asked[1])
        for future in waiting:
            with suppress(InvalidStateError):
                future.set_exception(error)
        self._network.give_up(error)

    def _fail(self, error: MpcdpError) -> None:
        """Hand the error to whoever waits for an answer, and refuse everything that comes later.

        An error that started again this party may get over is none to others: they are told to come back.
        """
        if isinstance(error, ProcessStopped):
            self._monitor.stop(error)
        else:
            self._monitor.close(str(error))
        self._interrupt(error)

    def _wait_for(self, answer: "Future[_T]") -> _T:
        """Wait for what the role's own thread answers; callers give up sooner and ask again."""
        seconds = self._limits.prepare_seconds + self._limits.message_seconds + waiting_seconds(self._task)
        try:
            return wait_with_caller(answer, seconds)
        except TimeoutError:
            raise PeerTimeout(self._name, f"it was not ready within {seconds:g} s: see its log") from None

    def _wait_until_ready(self, round_index: int) -> None:
        """Wait until this party knows what the others know, and has repeated the round it is bound to.

        After a power cut at all parties the caller may know that round's release, and be at the next one already.

        Args:
            round_index: what the call is about: it does not wait for its own round.
        """
        self._wait_for(self._ready)
        with self._monitor.changed:
            repeats = self._adopted is not None and round_index > self._history.rounds
            repeated = self._round_bound
        if repeats:
            self._wait_for(repeated)

    # -- owners ----------------------------------------------------------------------------------------------------

    def enrol(self, caller: str, enrolment: Enrolment) -> NoiseUse | None:
        """Take an owner's key, after binding the task digest to this session for good."""
        self._check(enrolment.ref)
        position = self._position_of(caller)
        expected = 0 if self._collects else KEY_BYTES
        if len(enrolment.key) != expected:
            raise ProtocolError(f"{caller}: this party takes a key of {expected} bytes, not {len(enrolment.key)}")
        if self._noise_use is None:
            self._wait_for(self._ready)
        with self._monitor.changed:
            self._monitor.check(enrolment.ref)
            if self._enrolments.get(position, enrolment) != enrolment:
                raise ProtocolError(f"{caller} has already enrolled with another key")
            if position not in self._enrolments:
                self._journal.enrol(position, enrolment)
                self._enrolments[position], self._begun = enrolment, True
                self._monitor.changed.notify_all()
            use = self._noise_use
        _log.info("owner enrolled", owner=caller)
        return use

    def _position_of(self, owner: str) -> int:
        position = self._positions.get(owner)
        if position is None:
            raise ProtocolError(f"{owner} is no owner of this task")
        return position

    def upload(self, caller: str, upload: Upload) -> None:
        """Take an owner's share of the current round, and return when all parties are bound to the round.

        The same bytes again change nothing. Once this returned, or raised `LateUpload`, the share is needed no more.
        """
        self._check(upload.ref)
        if not self._collects:
            raise ProtocolError(f"shares of a round are uploaded to {self._parties[-1]}, the last compute party")
        if upload.values.shape != (self._plan.dimension,):
            raise ProtocolError(f"{caller}: the share has {upload.values.size} coordinates, not {self._plan.dimension}")
        position = self._position_of(caller)
        self._wait_until_ready(upload.round_index)
        with self._monitor.changed:
            owners = self._owners_of_past_round(caller, position, upload)
            if owners is None:
                self._keep(caller, position, upload)
            settled = self._round_bound
        if position not in (self._wait_for(settled) if owners is None else owners):
            raise LateUpload(
                f"{caller}: the share is for round {upload.round_index}, which is over, or was agreed on "
                f"without it: upload sooner{self._unless_too_long}"
            )

    @property
    def _unless_too_long(self) -> str:
        if self._plan.contribution_check is None:
            return ""
        return "; if it came in time, it failed the contribution check: correct what computes the contribution"

    def _owners_of_past_round(self, caller: str, position: int, upload: Upload) -> OwnerSet | None:
        """Return whose contributions are in the round of an upload, None if it is the current one."""
        current = self._history.rounds
        if position not in self._enrolments:
            raise ProtocolError(f"{caller} has not enrolled in this session")
        if upload.round_index > current:
            raise ProtocolError(f"{caller}: the share is for round {upload.round_index}, this is round {current}")
        if upload.round_index < current:
            last = self._last
            return last.release.owners if last is not None and last.round_index == upload.round_index else OwnerSet()
        if upload.history != self._history.digest:
            raise ProtocolError(
                f"{caller}: the share was computed after other releases than this party's; "
                f"{self._task.coordinator.name} told the owner something else than was released"
            )
        return None

    def _keep(self, caller: str, position: int, upload: Upload) -> None:
        """Keep an upload of the current round, unless this party is bound to the round already and needs it no more."""
        known = self._uploads.get(position)
        if known is not None and (known.nonce != upload.nonce or (known.values != upload.values).any()):
            raise self._another_share(caller, upload)
        if self._agreed.get(position, upload.nonce) != upload.nonce:
            raise self._another_share(caller, upload)
        bound = self._bound is not None and self._bound.round_index == upload.round_index
        if known is not None or bound:
            return
        self._uploads[position] = upload
        _log.info("share received", owner=caller, round=upload.round_index)
        # Of a thousand uploads, the last one wakes the thread that waits for them.
        if len(self._uploads) >= self._wanted:
            self._monitor.changed.notify_all()

    def _another_share(self, caller: str, upload: Upload) -> ProtocolError:
        return ProtocolError(f"{caller} has already uploaded another share for round {upload.round_index}")

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        """Tell an owner what was released so far."""
        self._check(ref)
        self._wait_until_ready(self._plan.rounds)
        with self._monitor.changed:
            return self._history.outcome

    # -- coordinator -----------------------------------------------------------------------------------------------

    def aggregate(self, caller: str, request: Aggregate) -> Release:
        """Run the next round of the plan and return what was revealed; asked again, return the same."""
        self._check(request.ref)
        self._wait_until_ready(request.round_index)
        with self._monitor.changed:
            current = self._history.rounds
            last = self._last
            if last is not None and request.round_index == current - 1 and last.asked in (None, request.owners):
                return last.release
            if request.round_index != current or request.round_index >= self._plan.rounds:
                raise ProtocolError(
                    f"round {request.round_index} is not next: of {self._plan.rounds} rounds, each once and of the "
                    f"owners it was first asked for, round {current} is"
                )
            if self._asked is None:
                bound = self._bound
                if bound is not None and bound.round_index == current and bound.asked not in (None, request.owners):
                    raise ProtocolError(f"round {current} is already running, of other owners")
                self._asked = (request, Future())
                self._monitor.changed.notify_all()
            elif self._asked[0] != request:
                raise ProtocolError(f"round {request.round_index} is already running, of other owners")
            answer = self._asked[1]
        return self._wait_for(answer)
