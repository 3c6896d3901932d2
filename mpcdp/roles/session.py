"""What all roles share about a session: its id, its deadlines, and one place where threads meet."""

import secrets
import threading
import time
from collections.abc import Callable

from mpcdp.errors import ProtocolError, SessionAborted
from mpcdp.task import Task
from mpcdp.transport.channel import Limits
from mpcdp.transport.messages import SessionRef

__all__ = ["Deadline", "SessionMonitor", "limits_of", "new_session", "waiting_seconds"]

_SLACK_SECONDS = 15.0
"""Added to every deadline that contains another one, so that the inner error, which names the culprit, comes first."""


def new_session(task: Task) -> SessionRef:
    """Draw a fresh single-use session id for a task."""
    return SessionRef(task_digest=task.digest, session=secrets.token_bytes(32))


def waiting_seconds(task: Task) -> float:
    """How long a dealer or a compute party waits for a session: the coordinator may start last and wait for owners."""
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


class SessionMonitor:
    """The lock, the condition and the end of one session, shared by request handlers and the role's own thread."""

    def __init__(self, task: Task) -> None:
        self._task_digest = task.digest
        self._ref: SessionRef | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._abort_reason: str | None = None

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
        """
        self.check_task(ref.task_digest)
        with self._changed:
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
        """
        self.check_task(ref.task_digest)
        with self._changed:
            if self._ref != ref:
                raise ProtocolError("the message belongs to a session that this process does not take part in")
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
