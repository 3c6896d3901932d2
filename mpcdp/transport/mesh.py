"""Ordered messages between all compute parties of a session: one stream per pair, opened by the higher rank."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from mpcdp.errors import MpcdpError, PeerError, PeerTimeout, PeerUnavailable, ProtocolError
from mpcdp.transport.channel import Limits
from mpcdp.transport.frames import (
    OPERATION_CHARACTERS,
    PAYLOAD_BYTES,
    Hello,
    write_goodbye,
    write_hello,
    write_payload,
)
from mpcdp.transport.link import Link
from mpcdp.transport.messages import SessionRef
from mpcdp.transport.reader import Reader

__all__ = ["LinkMesh", "Lost", "MeshGate", "Stream"]

_FAREWELL_SECONDS = 1.0
"""How long a party that leaves because of an error tries to tell its peers why."""

_CURE = "see its log, or give it longer under [deadlines] in the task"
_ONE_PROCESS = "if nobody has started it again, end the second process of this party"


class Stream(Protocol):
    """What a peer answers to a call: serialized messages as they arrive; iterating raises `MpcdpError`."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __next__(self) -> bytes: ...

    def cancel(self) -> None:
        """Give the call up; from any thread, at any time."""
        ...


Dial = Callable[[str, Iterator[bytes]], Stream]
"""Opens a stream to a peer by name and sends it frames."""

Lost = Callable[[MpcdpError], None]
"""Told, on any thread, that a connection of an open mesh broke. It must not wait for anything."""


class LinkMesh:
    """The open mesh of one session (fits `mpcdp.transport.channel.MessageMesh`); used by one thread.

    Args:
        rank: of this party.
        links: to all other parties, by rank.
        seconds: deadline of one exchange.
        changed: the condition the links notify.
        arrived: the queue to which the links add.
    """

    def __init__(
        self,
        rank: int,
        links: dict[int, Link],
        *,
        seconds: float,
        changed: threading.Condition,
        arrived: "queue.SimpleQueue[None]",
    ) -> None:
        self._rank = rank
        self._links = links
        self._seconds = seconds
        self._changed = changed
        self._arrived = arrived
        self._sequence = 0
        self._failure: MpcdpError | None = None

    @property
    def rank(self) -> int:
        """This party's index."""
        return self._rank

    @property
    def size(self) -> int:
        """Number of parties."""
        return len(self._links) + 1

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        """Send one payload to every peer and receive one from each; the result is indexed by rank. One round.

        Args:
            operation: name of the step, at most 64 characters; peers must be at the same one.
            payload: at most 1 GiB; copied before this returns. Peers' payloads may have other sizes.

        Raises:
            PeerUnavailable: a peer is gone.
            PeerTimeout: a peer is late.
            ProtocolError: a peer is at another step. After an error the mesh is of no use.
        """
        if not 1 <= len(operation) <= OPERATION_CHARACTERS or memoryview(payload).nbytes > PAYLOAD_BYTES:
            raise ValueError(f"an operation has a name and at most {PAYLOAD_BYTES} bytes")
        if self._failure is not None:
            raise self._failure
        try:
            for frame in write_payload(operation, self._sequence, payload):
                for link in self._links.values():
                    link.send(frame)
            received = self._receive(operation)
        except MpcdpError as error:
            self._failure = error
            raise
        self._sequence += 1
        return [payload if rank == self._rank else received[rank] for rank in range(self.size)]

    def _receive(self, operation: str) -> dict[int, bytes | memoryview]:
        links = self._links.values()
        self._wait(lambda: all(link.ready for link in links) or any(link.broken for link in links))
        late = [link.peer for link in links if not link.ready]
        if late and not any(link.broken for link in links):
            raise PeerTimeout(
                late[0],
                f"it did not answer {operation!r}, message {self._sequence}, within {self._seconds:g} s: {_CURE}",
            )
        # The broken ones first: their error is the one to raise.
        order = sorted(self._links, key=lambda rank: not self._links[rank].broken)
        return {rank: self._links[rank].take(operation, self._sequence) for rank in order}

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait until something holds that only an arrival can change, or the deadline of one exchange passes."""
        end = time.monotonic() + self._seconds
        while True:
            # What is here already must not wake us again, nor pile up.
            while not self._arrived.empty():
                self._arrived.get_nowait()
            left = end - time.monotonic()
            if done() or left <= 0:
                return
            with suppress(queue.Empty):
                self._arrived.get(timeout=left)

    def say_goodbye(self) -> None:
        """Tell every peer that this party is done, and wait until all of them are.

        Raises:
            MpcdpError: the mesh has failed before.
            PeerError: a peer left before its end, or stays longer than one exchange may take.
            ProtocolError: a peer sent something else than its goodbye.
        """
        if self._failure is not None:
            raise self._failure
        links = tuple(self._links.values())
        end = time.monotonic() + self._seconds
        for link in links:
            link.send(write_goodbye(None))
        self._wait(lambda: all(link.ready for link in links) or any(link.failure for link in links))
        for link in sorted(links, key=lambda link: link.failure is None):
            link.check_goodbye(self._seconds)
        # Only now: a stream must not end before the goodbyes of both sides have passed; and once the peer's side has
        # ended, it has ours.
        for link in links:
            link.end()
        with self._changed:
            self._changed.wait_for(lambda: all(link.ended for link in links), end - time.monotonic())


class MeshGate:
    """Where the streams of one compute party meet: those it opens and those it is called with.

    A peer that calls again replaces its earlier stream: it was started again, or lost the connection before this side
    noticed. The mesh of the earlier stream is of no use from then on, and the new one waits for the next mesh.

    Args:
        me: name of this party.
        limits: deadlines.
    """

    def __init__(self, me: str, limits: Limits) -> None:
        self._me = me
        self._limits = limits
        self._changed = threading.Condition()
        self._arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._links: dict[str, Link] = {}
        self._expected: Hello | None = None
        self._forming = False
        self._opened: Hello | None = None
        self._abandoned: MpcdpError | None = None

    @property
    def abandoned(self) -> MpcdpError | None:
        """Why no mesh is opened any more."""
        return self._abandoned

    def abandon(self, error: MpcdpError) -> None:
        """Break the open mesh, and open none any more: whoever waits for a peer gets this error, and peers its text."""
        with self._changed:
            self._abandoned = self._abandoned or error
            for link in self._links.values():
                link.fail(error)
            self._changed.notify_all()

    def accept(self, caller: str, reader: Reader) -> Iterator[bytes]:
        """Answer a peer of higher rank; a stream that comes before `open` waits for it.

        Raises:
            ProtocolError: the peer is of another session, or should have been called by us.
            PeerTimeout: this party opened no mesh in time.
        """
        link = Link(caller, self._changed, self._arrived)
        with self._changed:
            known = self._links.get(caller)
            self._links[caller] = link
            if known is not None:
                known.fail(PeerUnavailable(caller, f"it has connected again: {_ONE_PROCESS}"))
        try:
            link.start_reading(reader)
            yield self._admit(link)
            yield from link.outgoing()
        finally:
            with self._changed:
                # One that failed early stays, so that `open` need not wait for a peer that has left its session.
                if not link.admitted and link.failure is None and self._links.get(caller) is link:
                    del self._links[caller]

    def _admit(self, link: Link) -> bytes:
        """Wait for the peer's hello and for our own mesh; return our hello."""
        seconds = self._limits.connect_seconds
        with self._changed:
            self._changed.wait_for(
                lambda: link.failure or self._abandoned or (link.hello is not None and self._forming), seconds
            )
            if (failure := link.failure or self._abandoned) is not None:
                raise failure
            if link.hello is None:
                raise ProtocolError(f"{link.peer}: said no hello within {seconds:g} s")
            expected = self._expected
            if expected is None or not self._forming:
                raise PeerTimeout(self._me, f"it did not join the session within {seconds:g} s: see its log")
            _check_hello(link, expected)
            if link.peer not in expected.parties[expected.parties.index(self._me) + 1 :]:
                raise ProtocolError(f"{link.peer} has the lower rank and waits to be called by {self._me}")
            link.admitted = True
            self._changed.notify_all()
        return write_hello(self._me, expected)

    @contextmanager
    def open(self, ref: SessionRef, names: Sequence[str], dial: Dial, lost: Lost) -> Iterator[LinkMesh]:
        """Connect with all other parties; leaving says goodbye and waits for theirs, or tells them of an error.

        Args:
            ref: the session.
            names: all compute parties in rank order, this one among them.
            dial: opens a stream to a peer of lower rank.
            lost: told of a connection that breaks while the mesh is open, also while nobody waits for a message.

        Raises:
            PeerError: a peer is not there, late, or left before its end.
            ProtocolError: a peer takes part in another session, or this party already in one.
            MpcdpError: whatever `abandon` was called with.
        """
        hello = Hello(ref=ref, parties=tuple(names))
        rank = hello.parties.index(self._me)
        self._begin(hello)
        streams: list[Stream] = []
        try:
            deadline = time.monotonic() + self._limits.connect_seconds
            for peer in hello.parties[:rank]:
                streams.append(self._dial(peer, hello, dial))
            links = self._wait_for_links(hello, rank, deadline, lost)
            mesh = LinkMesh(
                rank, links, seconds=self._limits.message_seconds, changed=self._changed, arrived=self._arrived
            )
            yield mesh
            mesh.say_goodbye()
        except BaseException as error:
            self._leave(str(error) if isinstance(error, MpcdpError) else "internal error: see its log")
            raise
        finally:
            for stream in streams:
                stream.cancel()
            with self._changed:
                self._expected, self._forming = None, False
                self._forget_links(lambda link: link.admitted or (link.failure is not None and link.hello == hello))

    def _begin(self, hello: Hello) -> None:
        with self._changed:
            if self._abandoned is not None:
                raise self._abandoned
            if self._expected is not None:
                raise ProtocolError(f"{self._me} takes part in another session: one at a time")
            if self._opened == hello:
                # A peer that called meanwhile, and gave up because another one was away, will call again.
                self._forget_links(lambda link: isinstance(link.failure, PeerError))
            self._expected, self._forming, self._opened = hello, True, hello
            self._changed.notify_all()

    def _forget_links(self, over: Callable[[Link], bool]) -> None:
        self._links = {name: link for name, link in self._links.items() if not over(link)}

    def _dial(self, peer: str, hello: Hello, dial: Dial) -> Stream:
        link = Link(peer, self._changed, self._arrived)
        link.admitted = True
        link.send(write_hello(self._me, hello))
        stream = dial(peer, link.outgoing())
        with self._changed:
            self._links[peer] = link
        link.start_reading(Reader(peer, stream, self._limits))
        return stream

    def _wait_for_links(self, hello: Hello, rank: int, deadline: float, lost: Lost) -> dict[int, Link]:
        def here(name: str) -> bool:
            link = self._links.get(name)
            return link is not None and link.admitted and link.hello is not None

        peers = {index: name for index, name in enumerate(hello.parties) if index != rank}
        with self._changed:
            self._changed.wait_for(
                lambda: all(here(name) for name in peers.values()) or any(self._failures(hello)) or self._abandoned,
                deadline - time.monotonic(),
            )
            if self._abandoned is not None:
                raise self._abandoned
            for failure in self._failures(hello):
                raise failure
            for name in peers.values():
                if not here(name):
                    raise PeerTimeout(
                        name,
                        f"it did not join the session within {self._limits.connect_seconds:g} s: {_CURE}",
                        final=True,
                    )
                _check_hello(self._links[name], hello)
            self._forming = False
            for name in peers.values():
                self._links[name].lost = lost
            return {index: self._links[name] for index, name in peers.items()}

    def _failures(self, hello: Hello) -> list[MpcdpError]:
        return [
            link.failure
            for link in self._links.values()
            if link.failure is not None and (link.admitted or link.hello == hello)
        ]

    def _leave(self, reason: str) -> None:
        with self._changed:
            links = [link for link in self._links.values() if link.admitted]
            for link in links:
                link.send(write_goodbye(reason))
                link.end()
            self._changed.wait_for(lambda: all(link.ended for link in links), _FAREWELL_SECONDS)


def _check_hello(link: Link, expected: Hello) -> None:
    if link.hello != expected:
        raise ProtocolError(
            f"{link.peer}: takes part in another session, or with other compute parties: "
            "give every process the same task.toml and restart it"
        )
