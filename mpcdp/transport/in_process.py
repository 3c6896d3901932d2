"""A network between threads of one process, for tests and simulations: same rules, no sockets.

Messages are serialized, checked and refused by the same code as over gRPC; only the carrying differs.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from mpcdp.errors import ConfigError, IdentityError, MpcdpError, PeerUnavailable
from mpcdp.transport.channel import Limits, Member, Services
from mpcdp.transport.failures import NOTHING_LISTENS, broken, error_of, failure_of, late
from mpcdp.transport.mesh import Stream
from mpcdp.transport.peer_network import PeerNetwork
from mpcdp.transport.reception import Reception

__all__ = ["Fault", "InProcessNetwork", "InProcessWorld", "Parcel"]

_BUFFERED = 2
_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Parcel:
    """A message on its way.

    Args:
        sender: name of the process that sends it.
        receiver: name of the process it is for.
        method: the call it belongs to, e.g. ``"ComputeParty/Upload"``.
        message: the serialized message.
    """

    sender: str
    receiver: str
    method: str
    message: bytes = field(repr=False)


Fault = Callable[[Parcel], bytes | None]
"""What happens to a message: returns what is delivered; None breaks the connection, and sleeping delays it."""


class InProcessWorld:
    """Where the networks of several processes meet.

    Args:
        fault: what happens to every message; called from many threads.
    """

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self._lock = threading.Lock()
        self._receptions: dict[str, Reception] = {}
        self._calls: list[_InProcessCall] = []

    def kill(self, name: str) -> None:
        """Break all connections of a process and stop it from listening, as if it had died."""
        with self._lock:
            self._receptions.pop(name, None)
        for call in self._calls_of(name):
            call.cancel()

    @contextmanager
    def listening(self, reception: Reception) -> Iterator[None]:
        """Let a process be called until the context ends; then give calls under way a few seconds to finish.

        Raises:
            ConfigError: it listens already.
        """
        name = reception.me.name
        with self._lock:
            if name in self._receptions:
                raise ConfigError(f"{name} cannot listen: another process uses its name")
            self._receptions[name] = reception
        try:
            yield
        finally:
            with self._lock:
                if self._receptions.get(name) is reception:  # else it was killed, and another may have come since
                    del self._receptions[name]
            end = time.monotonic() + _GRACE_SECONDS
            for call in self._calls_of(name):
                if call.reception is reception:
                    call.finish(end - time.monotonic())

    def start(self, caller: Member, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        """Start a call; see `PeerNetwork`."""
        with self._lock:
            reception = self._receptions.get(peer.name)
            if reception is None:
                raise PeerUnavailable(peer.name, NOTHING_LISTENS)
            if reception.me.certificate != peer.certificate:
                raise IdentityError(
                    f"{peer.name}: whoever listens at its address has no certificate for {peer.certificate}"
                )
            self._calls = [call for call in self._calls if not call.over]
            call = _InProcessCall(caller, reception, method, seconds, self.fault)
            self._calls.append(call)
        call.run(messages)
        return call

    def _calls_of(self, name: str) -> "list[_InProcessCall]":
        with self._lock:
            return [call for call in self._calls if name in (call.caller, call.peer) and not call.over]


class InProcessNetwork(PeerNetwork):
    """One process's access to the others of a world.

    Args:
        world: where it meets them.
        me: this process; its certificate is taken as proven.
        members: all processes of the task as this one knows it.
        limits: bounds and deadlines.
        task_digest: of the task that it holds.
    """

    def __init__(
        self,
        world: InProcessWorld,
        me: Member,
        members: Sequence[Member],
        limits: Limits,
        *,
        task_digest: bytes,
    ) -> None:
        super().__init__(me, members, limits, task_digest=task_digest)
        self._world = world

    @contextmanager
    def serve(self, service: Services | None) -> Iterator[None]:
        """Answer requests until the context ends."""
        with self._world.listening(self._reception(service)):
            yield

    def _start(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        return self._world.start(self._me, peer, method, messages, seconds)


class _Gone(Exception):
    """The reader of a pipe has left."""


class _Pipe:
    """A bounded queue of messages in one direction of a call."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: deque[bytes] = deque()
        self._ended = False
        self._failure: MpcdpError | None = None

    def put(self, message: bytes) -> None:
        """Wait for room and append a message.

        Raises:
            _Gone: nobody will read it.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._messages) < _BUFFERED or self._ended)
            if self._ended:
                raise _Gone
            self._messages.append(message)
            self._changed.notify_all()

    def end(self, failure: MpcdpError | None = None) -> None:
        """End the pipe; what is in it can still be read. The first end counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._failure = True, failure
            self._changed.notify_all()

    def get(self, seconds: float | None) -> bytes:
        """Wait for the next message.

        Raises:
            StopIteration: the pipe has ended.
            TimeoutError: nothing came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._messages) or self._ended, seconds):
                raise TimeoutError
            if not self._messages:
                raise self._failure or StopIteration
            self._changed.notify_all()
            return self._messages.popleft()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self.get(None)


class _InProcessCall:
    """One call under way: a pipe in each direction, a thread that sends and one that answers."""

    def __init__(self, caller: Member, reception: Reception, method: str, seconds: float, fault: Fault | None) -> None:
        self.caller = caller.name
        self.peer = reception.me.name
        self.reception = reception
        self._certificate = caller.certificate
        self._method = method
        self._seconds = seconds
        self._fault = fault
        self._end = time.monotonic() + seconds
        self._requests = _Pipe()
        self._answers = _Pipe()
        self._answered = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] | None = []

    @property
    def over(self) -> bool:
        """Whether the call has been answered or broken off."""
        return self._answered.is_set()

    def run(self, messages: Iterable[bytes]) -> None:
        """Start both threads."""
        threading.Thread(target=self._send, args=(messages,), name="in-process-send", daemon=True).start()
        threading.Thread(target=self._answer, name="in-process-answer", daemon=True).start()

    def finish(self, seconds: float) -> None:
        """Wait for the answer's end, then break off."""
        self._answered.wait(max(seconds, 0))
        self.cancel()

    # -- the caller's side -----------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return self._answers.get(max(self._end - time.monotonic(), 0))
        except TimeoutError:
            self.cancel()
            raise late(self.peer, self._method, self._seconds) from None

    def cancel(self) -> None:
        """Break the connection, for both sides."""
        self._answers.end(broken(self.peer, self._method))
        self._requests.end(broken(self.caller, self._method))
        self._tell_gone()

    # -- threads ---------------------------------------------------------------------------------------------------

    def _send(self, messages: Iterable[bytes]) -> None:
        try:
            for message in messages:
                self._requests.put(self._carry(self.caller, self.peer, message))
            self._requests.end()
        except _Gone:
            pass

    def _answer(self) -> None:
        try:
            caller = self.reception.identify([self._certificate])
            for message in self.reception.answer(caller, self._method, self._requests, self._when_gone):
                self._answers.put(self._carry(self.peer, self.caller, message))
            self._answers.end()
        except _Gone:
            pass
        except Exception as error:  # noqa: BLE001 (whatever it is, the caller is told what it may know)
            failure = failure_of(error, me=self.peer, caller=self.caller, method=self._method)
            self._answers.end(error_of(failure, peer=self.peer))
        finally:
            self._answered.set()
            self._requests.end()
            self._tell_gone()

    def _carry(self, sender: str, receiver: str, message: bytes) -> bytes:
        if self._fault is None:
            return message
        delivered = self._fault(Parcel(sender, receiver, self._method, message))
        if delivered is None:
            self.cancel()
            raise _Gone
        return delivered

    def _when_gone(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if self._callbacks is not None:
                self._callbacks.append(callback)
                return
        callback()

    def _tell_gone(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks or [], None
        for callback in callbacks:
            callback()
