"""What owners ask of the coordinator: to attend the session, and to leave it."""

from collections.abc import Iterator
from functools import partial

import structlog

from mpcdp.errors import ProcessStopped, ProtocolError
from mpcdp.plan import Plan
from mpcdp.roles.attendance import Attending, Progress
from mpcdp.roles.coordinator_journal import CoordinatorJournal
from mpcdp.roles.session import Deadline, SessionMonitor, limits_of
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.messages import Aborted, Attendance, Finished, Release, SessionEvent, SessionRef

__all__ = ["OwnerDesk"]

_log = structlog.get_logger("mpcdp.coordinator")


class OwnerDesk:
    """Let owners attend, whenever they come (fits `mpcdp.transport.channel.CoordinatorService`).

    Args:
        task: what everybody agreed on.
        plan: the task's plan.
    """

    def __init__(self, task: Task, plan: Plan) -> None:
        self._task = task
        self._plan = plan
        self._monitor = SessionMonitor(task)
        self._limits = limits_of(task, dimension=plan.dimension, rounds=plan.rounds)
        self._positions = {owner.name: position for position, owner in enumerate(task.owners)}
        self._journal: CoordinatorJournal | None = None
        # All of this is read and changed while the monitor's condition is held.
        self._mailboxes: dict[str, Attending] = {}
        self._attending: set[str] = set()
        self._served: set[str] = set()
        self._last: Release | None = None
        self._progress = Progress(self._release)

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        """Register an owner and yield the session's events until its end.

        An owner may come back, or come late: it is first told everything that was released before.
        """
        self._check(caller, attendance)
        mailbox = Attending(
            self._progress,
            self._monitor.changed,
            partial(self._leave, caller),
            event_seconds=self._limits.session_seconds,
            leaving_seconds=self._limits.call_seconds,
        )
        with self._monitor.changed:
            self._monitor.check_going_on()
            if self._progress.end is not None and caller in self._served:
                raise ProtocolError("the session is over")
            earlier = self._mailboxes.get(caller)
            self._mailboxes[caller] = mailbox
            self._attending.add(caller)
            self._monitor.changed.notify_all()
        if earlier is not None:
            earlier.close()  # its connection broke, and this side has not noticed yet
        _log.info("owner joined", owner=caller)
        return mailbox

    def _check(self, caller: str, attendance: Attendance) -> None:
        self._monitor.check_task(attendance.task_digest)
        position = self._positions.get(caller)
        if position is None:
            raise ProtocolError(f"{caller} is no owner of this task")
        declared = self._task.owners[position].record_count
        if attendance.record_count != declared:
            raise ProtocolError(f"{caller} joins with {attendance.record_count} records, the task declares {declared}")

    def leave(self, caller: str, attendance: Attendance) -> None:
        """Take note that an owner has its model, or will never take it, and does not come back."""
        self._check(caller, attendance)
        with self._monitor.changed:
            ref = self._progress.ref
            if ref is None or self._progress.end is None:
                raise ProtocolError(f"{caller} leaves before the session's end")
            if not self._monitor.closed:
                self._open_journal().serve(ref, caller)
            self._served.add(caller)
            self._monitor.changed.notify_all()

    def _leave(self, owner: str, mailbox: Attending) -> None:
        with self._monitor.changed:
            if self._mailboxes.get(owner) is not mailbox:
                return  # it left before and has come back since
            del self._mailboxes[owner]
            self._attending.discard(owner)
            self._monitor.changed.notify_all()
        _log.info("owner left", owner=owner)

    def _open_journal(self) -> CoordinatorJournal:
        if self._journal is None:
            raise ProtocolError("no session is open here")
        return self._journal

    def _release(self, round_index: int) -> Release:
        """Read the release of a round, for an owner; the last one is in memory."""
        ref = self._progress.ref
        if ref is None:
            raise ProtocolError("no session is open here")
        if self._last is not None and round_index == self._progress.releases - 1:
            return self._last
        return self._open_journal().release(ref, round_index)

    def _publish(self, ref: SessionRef) -> None:
        """Let all owners see where the session stands."""
        with self._monitor.changed:
            self._progress.ref = ref
            mailboxes = list(self._mailboxes.values())
        for mailbox in mailboxes:
            mailbox.wake()

    def _tell_owners(self, event: Finished | Aborted | ProcessStopped) -> None:
        """Publish the last event; after `ProcessStopped` owners come again."""
        with self._monitor.changed:
            self._progress.end = event
            mailboxes = list(self._mailboxes.values())
        for mailbox in mailboxes:
            mailbox.wake()

    def _wait_until_served(self, owners: OwnerSet) -> None:
        """Wait until the owners of the last release, and all who attend, have their model: some may be coming back."""
        expected = {owner for owner, position in self._positions.items() if position in owners}
        deadlines = self._task.deadlines
        deadline = Deadline(max(deadlines.start_seconds, self._limits.call_seconds))

        def served() -> bool:
            # Looked at whenever one of them leaves: as long as too few have left, their number tells it.
            return self._served >= expected and self._served >= self._attending

        if not self._monitor.wait_for(served, deadline):
            with self._monitor.changed:
                missing = sorted((expected | self._attending) - self._served)
            _log.warning("owners left without a word", owners=", ".join(missing))
