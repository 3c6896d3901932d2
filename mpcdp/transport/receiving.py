"""Nobody holds a process up by sending slowly or not at all: one thread watches all calls that are being received."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mpcdp.transport.looking import Looking
from mpcdp.transport.reader import CHUNK_BYTES

__all__ = ["SLOWEST_BYTES_PER_SECOND", "Sender", "Watch"]

SLOWEST_BYTES_PER_SECOND = 50_000
"""Who sends more slowly is given up: about the uplink of the slowest connections that are still sold."""

_LOOKS_PER_DEADLINE = 20
_CURE = "mend its connection, or give it longer under [deadlines] in the task"


class Sender:
    """One call that is being received.

    Args:
        give_up: breaks the call off; may be called from any thread.
        seconds: deadline of all its messages together.
        message_seconds: deadline of each of them.
    """

    def __init__(self, give_up: Callable[[], None], *, seconds: float, message_seconds: float) -> None:
        self._give_up = give_up
        self._seconds = seconds
        self._message_seconds = message_seconds
        self._begun = time.monotonic()
        self._waiting_since: float | None = self._begun
        self._messages = 0
        self._bytes = 0
        self.problem: str | None = None
        """What was wrong with a call that was broken off."""

    def received(self, message: bytes) -> None:
        """Note a message: until `waiting`, time passes at our expense."""
        self._waiting_since = None
        self._messages += 1
        self._bytes += len(message)

    def waiting(self) -> None:
        """Note that the next message is waited for."""
        self._waiting_since = time.monotonic()

    def look(self, now: float) -> None:
        """Break the call off if it is late."""
        since = self._waiting_since
        if self.problem is not None or since is None:
            return
        if now - self._begun > self._seconds:
            self.problem = f"was not sent within {self._seconds:.3g} s"
        elif now - since > self._message_seconds:
            self.problem = f"paused for {self._message_seconds:.3g} s"
        else:
            return
        self.problem += f" (so far {self._messages} messages, {self._bytes} bytes): {_CURE}"
        self._give_up()


class Watch(Looking):
    """Watches all calls of one server; a context manager.

    Args:
        seconds: deadline of everything that one call sends.
        patience_seconds: added to the time that `SLOWEST_BYTES_PER_SECOND` leaves for one message.

    Guarantees:
        A call's thread waits for a sender no longer than ``seconds`` and a twentieth. Waiting for an answer, or for
        this process, counts nothing.
    """

    def __init__(self, *, seconds: float, patience_seconds: float) -> None:
        self._seconds = seconds
        self._message_seconds = min(seconds, CHUNK_BYTES / SLOWEST_BYTES_PER_SECOND + patience_seconds)
        super().__init__("watch", pause_seconds=min(1.0, self._message_seconds / _LOOKS_PER_DEADLINE))
        self._senders: set[Sender] = set()
        self._lock = threading.Lock()

    @contextmanager
    def sender(self, give_up: Callable[[], None]) -> Iterator[Sender]:
        """Watch one call until all it has to say is received."""
        sender = Sender(give_up, seconds=self._seconds, message_seconds=self._message_seconds)
        with self._lock:
            self._senders.add(sender)
        try:
            yield sender
        finally:
            with self._lock:
                self._senders.discard(sender)

    def look(self) -> None:
        """Give up the calls whose senders are too slow."""
        with self._lock:
            senders = tuple(self._senders)
        now = time.monotonic()
        for sender in senders:
            sender.look(now)
