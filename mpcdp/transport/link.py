"""One peer's end of the mesh: frames out through a queue, payloads in through a reader thread."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator

from mpcdp.errors import MpcdpError, PeerTimeout, PeerUnavailable, ProtocolError
from mpcdp.transport.frames import Goodbye, Hello, Payload, read_frames, write_goodbye
from mpcdp.transport.reader import Reader

__all__ = ["Link"]

_PENDING = 2
"""Payloads a peer can be ahead of us: it may have finished this exchange and started the next, not more."""


class Link:
    """An ordered connection with one peer, whichever side opened it.

    Args:
        peer: name of the peer.
        changed: notified when the connection is made, ends or breaks; shared by all links of a process.
        arrived: gets an item whenever there may be something to `take`; shared likewise. A queue wakes its reader in
            half the time of a condition, which is a tenth of a small exchange.
    """

    def __init__(self, peer: str, changed: threading.Condition, arrived: "queue.SimpleQueue[None]") -> None:
        self.peer = peer
        self.hello: Hello | None = None
        self.goodbye = False
        """Whether the peer said that it is done."""
        self.failure: MpcdpError | None = None
        self.admitted = False
        """Whether it belongs to the mesh that is open."""
        self.ended = False
        """Whether the peer's side of the stream is over."""
        self.lost: Callable[[MpcdpError], None] | None = None
        """Told, on any thread, when a connection that belongs to an open mesh breaks."""
        self._changed = changed
        self._arrived = arrived
        self._payloads: deque[Payload] = deque()
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, frame: bytes) -> None:
        """Queue one frame."""
        self._outbox.put(frame)

    def end(self) -> None:
        """End our side of the stream after what is queued."""
        self._outbox.put(None)

    def outgoing(self) -> Iterator[bytes]:
        """Yield queued frames until `end`; the transport sends them."""
        while (frame := self._outbox.get()) is not None:
            yield frame

    # -- receiving -------------------------------------------------------------------------------------------------

    def read(self, reader: Reader) -> None:
        """Take in the peer's frames until its stream ends or breaks; runs on a thread of its own."""
        try:
            for item in read_frames(reader):
                self._take(item)
            self.fail(PeerUnavailable(self.peer, "it closed its connection without a goodbye: see its log"))
        except MpcdpError as error:
            self.fail(error)
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()

    def start_reading(self, reader: Reader) -> None:
        """Run `read` on a new thread."""
        threading.Thread(target=self.read, args=(reader,), name=f"mesh-{self.peer}", daemon=True).start()

    def _take(self, item: Hello | Payload | Goodbye) -> None:
        match item:
            case Payload():
                if len(self._payloads) == _PENDING:
                    raise ProtocolError(f"{self.peer}: sent more than one exchange ahead")
                self._payloads.append(item)
                self._arrived.put(None)
            case Hello():
                with self._changed:
                    self.hello = item
                    self._changed.notify_all()
            case Goodbye(reason=None):
                with self._changed:
                    self.goodbye = True
                    self._arrived.put(None)
            case Goodbye(reason=reason):
                self.fail(PeerUnavailable(self.peer, f"it left the session: {reason}"))

    def fail(self, error: MpcdpError) -> None:
        """Note that the connection is of no use any more; the first error counts."""
        with self._changed:
            # After its goodbye a peer may vanish in any way.
            if self.failure is None and not self.goodbye:
                self.failure = error
                self.send(write_goodbye(str(error)))
                if self.lost is not None:
                    self.lost(error)
            self.end()
            self._arrived.put(None)
            self._changed.notify_all()

    # -- what the mesh looks at ----------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there is a payload, or there will never be one."""
        return bool(self._payloads) or self.goodbye or self.failure is not None

    @property
    def broken(self) -> bool:
        """Whether the payload that is waited for will never come."""
        return self.ready and not self._payloads

    def take(self, operation: str, sequence: int) -> bytes | memoryview:
        """Return the payload of one exchange; call only when `ready`.

        Raises:
            PeerError: the connection broke before it arrived.
            ProtocolError: the peer is at another step.
        """
        if not self._payloads:
            raise self.failure or ProtocolError(
                f"{self.peer}: said goodbye, but this party expects its message {sequence} of {operation!r}"
            )
        payload = self._payloads.popleft()
        if (payload.operation, payload.sequence) != (operation, sequence):
            raise ProtocolError(
                f"{self.peer}: is at step {payload.operation!r}, message {payload.sequence}, but this party is at "
                f"{operation!r}, message {sequence}: run one task and one version of mpcdp everywhere"
            )
        return payload.content

    def check_goodbye(self, seconds: float) -> None:
        """Check, after waiting, that the peer is done as well.

        Raises:
            PeerError: it left before its end, or did not say goodbye within ``seconds``.
            ProtocolError: it sent a payload instead.
        """
        if self._payloads:
            raise ProtocolError(f"{self.peer}: sent {self._payloads[0].operation!r}, but this party has said goodbye")
        if self.failure is not None:
            raise self.failure
        if not self.goodbye:
            raise PeerTimeout(self.peer, f"it did not say goodbye within {seconds:g} s: see its log")
