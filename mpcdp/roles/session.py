"""What all roles share about a session: its id, its deadlines, and one place where threads meet."""

import secrets
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from mpcdp.errors import PeerError, PeerTimeout, PeerUnavailable, ProcessStopped, ProtocolError, SessionAborted
from mpcdp.task import Task
from mpcdp.transport.channel import Limits
from mpcdp.transport.messages import SessionRef

__all__ = ["Deadline", "Patience", "SessionMonitor", "limits_of", "new_session", "persistently", "waiting_seconds"]

_SLACK_SECONDS = 15.0
"""Added to every deadline that contains another one, so that the inner error, which names the culprit, comes first."""

_PAUSE_SECONDS = 0.2

_T = TypeVar("_T")
_log = structlog.get_logger("mpcdp.session")


def new_session(task: Task) -> SessionRef:
    """Draw a fresh single-use session id for a task."""
    return SessionRef(task_digest=task.digest, session=secrets.token_bytes(32))


def waiting_seconds(task: Task) -> float:
    """How long a process waits for another that may be away: it has to be started, and may wait for others itself."""
    return 2 * task.deadlines.start_seconds + _SLACK_SECONDS


def limits_of(task: Task, *, dimension: int, rounds: int) -> Limits:
    """Derive the transport's bounds from the task's deadlines."""
    deadlines = task.deadlines
    per_round = deadlines.contribution_seconds + deadlines.round_seconds
    return Limits(
        dimension=dimension,
        connect_seconds=deadlines.start_seconds,
        call_seconds=deadlines.round_seconds,
        message_seconds=per_round + _SLACK_SECONDS,
        prepare_seconds=deadlines.start_seconds + deadlines.round_seconds + _SLACK_SECONDS,
        session_seconds=2 * deadlines.start_seconds + (rounds + 1) * (per_round + _SLACK_SECONDS),
    )


class Deadline:
    """A point in time by which something must have happened.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, 0 when it has passed."""
        return max(0.0, self._end - time.monotonic())


class Patience:
    """How long a process goes on trying while another one is away; begins anew whenever all are there again.

    Args:
        seconds: from the first failure on.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline: Deadline | None = None

    def allows(self, error: PeerError) -> bool:
        """Note a failure, and tell whether to try again."""
        self._deadline = self._deadline or Deadline(self._seconds)
        away = isinstance(error, PeerUnavailable | PeerTimeout) and not error.final
        return away and self._deadline.remaining() > 0

    def renew(self) -> None:
        """All is well again."""
        self._deadline = None


def persistently(call: Callable[[], _T], patience: Patience, *, pause: Callable[[float], object] = time.sleep) -> _T:
    """Repeat a call whose connection breaks until it is answered; it must be one that may be repeated.

    Args:
        call: what to do; while the peer is away it waits for it, see `mpcdp.transport.channel.Network`.
        patience: how long to try.
        pause: waits for some seconds; may raise.

    Raises:
        PeerError: the peer did not come back in time, or said itself that something failed.
        MpcdpError: whatever the peer answered.
    """
    while True:
        try:
            return call()
        except PeerError as error:
            if not patience.allows(error):
                raise
            _log.warning("trying again", problem=str(error))
        pause(_PAUSE_SECONDS)


class SessionMonitor:
    """The lock, the condition and the end of one session, shared by request handlers and the role's own thread."""

    def __init__(self, task: Task) -> None:
        self._task_digest = task.digest
        self._ref: SessionRef | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._abort_reason: str | None = None
        self._stopped: ProcessStopped | None = None

    @property
    def changed(self) -> threading.Condition:
        """The condition to hold while reading or changing what `wait_for` looks at."""
        return self._changed

    def check_task(self, task_digest: bytes) -> None:
        """Refuse a message about another task.

        Raises:
            ProtocolError: the digests differ.
        """
        if task_digest != self._task_digest:
            raise ProtocolError(
                f"the message is about task {task_digest.hex()[:16]}, this process holds "
                f"{self._task_digest.hex()[:16]}: give every process the same bytes of task.toml"
            )

    def open(self, ref: SessionRef) -> None:
        """Take part in a session; only one per process.

        Raises:
            ProtocolError: another task, another session, or the session is over.
            ProcessStopped: this process ends, and will go on when it is started again.
        """
        self.check_task(ref.task_digest)
        with self._changed:
            if self._stopped is not None:
                raise self._stopped
            if self._closed:
                raise ProtocolError("this process's session is over: restart the process for a new one")
            if self._ref not in (None, ref):
                raise ProtocolError("this process takes part in another session: wait for its end or restart it")
            self._ref = ref
            self._changed.notify_all()

    def check(self, ref: SessionRef) -> None:
        """Refuse a message about another task or session.

        Raises:
            ProtocolError: it is not about this process's session, or the session is over.
            ProcessStopped: this process ends, and will go on when it is started again.
        """
        self.check_task(ref.task_digest)
        with self._changed:
            if self._stopped is None and self._ref != ref:
                raise ProtocolError("the message belongs to a session that this process does not take part in")
            self.check_going_on()

    def check_going_on(self) -> None:
        """Refuse whatever comes after the end.

        Raises:
            ProtocolError: the session is over.
            ProcessStopped: this process ends, and will go on when it is started again.
        """
        with self._changed:
            if self._stopped is not None:
                raise self._stopped
            if self._closed:
                raise ProtocolError("the session is over")

    def end(self, ref: SessionRef, reason: str | None) -> None:
        """Take part in a session no longer, or never: the coordinator says that it is over.

        Raises:
            ProtocolError: another task, or another session.
        """
        self.check_task(ref.task_digest)
        with self._changed:
            if self._ref not in (None, ref):
                raise ProtocolError("the message belongs to a session that this process does not take part in")
            self.close(reason)

    def close(self, reason: str | None) -> None:
        """End the session, for a reason if it failed; the first call decides."""
        with self._changed:
            if not self._closed:
                self._closed, self._abort_reason = True, reason
            self._changed.notify_all()

    def stop(self, error: ProcessStopped) -> None:
        """Let this process end without the session: whoever asks something is told to come again."""
        with self._changed:
            self._stopped = error
            self._changed.notify_all()

    @property
    def opened(self) -> bool:
        """Whether a session was opened, and perhaps ended."""
        with self._changed:
            return self._ref is not None

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        with self._changed:
            return self._closed

    @property
    def reason(self) -> str | None:
        """Why the session has ended, if it failed."""
        with self._changed:
            return self._abort_reason

    @property
    def finished(self) -> bool:
        """Whether the session has ended, and not for a reason."""
        with self._changed:
            return self._closed and self._abort_reason is None

    def pause(self, seconds: float) -> None:
        """Wait for some seconds, or until the session ends.

        Raises:
            SessionAborted: it was closed with a reason.
        """
        self.wait_for(lambda: self._closed, Deadline(seconds))

    def wait_for(self, predicate: Callable[[], bool], deadline: Deadline) -> bool:
        """Wait until ``predicate`` holds, and return False when the deadline passes first.

        Raises:
            SessionAborted: the session was closed with a reason meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._abort_reason is not None or predicate(), deadline.remaining())
            if self._abort_reason is not None:
                raise SessionAborted(self._abort_reason)
            return predicate()
