"""What every network does the same way, whatever carries its messages."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

import structlog

from mpcdp.errors import ConfigError, MpcdpError, PeerTimeout, PeerUnavailable, ProtocolError
from mpcdp.transport import codec
from mpcdp.transport.access import MESH, REACH
from mpcdp.transport.channel import (
    ComputePartyService,
    CoordinatorService,
    DealerService,
    Limits,
    Member,
    MessageMesh,
    Services,
)
from mpcdp.transport.clients import ComputePartyClient, CoordinatorClient, DealerClient
from mpcdp.transport.directory import Directory
from mpcdp.transport.greeting import greeting_of, other_task, other_version
from mpcdp.transport.mesh import Lost, MeshGate, Stream
from mpcdp.transport.messages import Greeting, SessionRef
from mpcdp.transport.reader import Reader
from mpcdp.transport.reception import Reception, Tally

__all__ = ["PeerNetwork"]

_RETRY_SECONDS = 0.1
_log = structlog.get_logger("mpcdp.transport")


class PeerNetwork(ABC):
    """One process's access to the others (fits `mpcdp.transport.channel.Network`); a transport fills in the carrying.

    Args:
        me: this process.
        members: all processes of the task, this one among them.
        limits: bounds and deadlines.
        task_digest: of the task that this process holds, 32 bytes; a peer with another one is refused.

    Raises:
        ConfigError: this process is not a member, or two members share a name or a certificate.
    """

    def __init__(self, me: Member, members: Sequence[Member], limits: Limits, *, task_digest: bytes) -> None:
        if me not in members:
            raise ConfigError(f"{me.name} is not a member of the task: check `name` and `role` in its config")
        self._me = me
        self._directory = Directory(members)
        self._limits = limits
        self._task_digest = task_digest
        self._tally = Tally()
        self._gate = MeshGate(me.name, limits)
        self._reached: set[str] = set()
        self._greeted: dict[str, tuple[Greeting, float]] = {}

    # -- what a transport adds -------------------------------------------------------------------------------------

    @abstractmethod
    def serve(self, service: Services | None) -> AbstractContextManager[None]:
        """Answer requests through `_reception` until the context ends; without a service, greetings only."""

    @abstractmethod
    def _start(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        """Start a call; when the peer is not there it fails at once with `PeerUnavailable`."""

    # -- the same for all ------------------------------------------------------------------------------------------

    @property
    def limits(self) -> Limits:
        """Bounds and deadlines."""
        return self._limits

    def coordinator(self, name: str) -> CoordinatorService:
        """Return a client of the coordinator."""
        return CoordinatorClient(self, self._directory.named(name, "coordinator"))

    def compute_party(self, name: str) -> ComputePartyService:
        """Return a client of a compute party."""
        return ComputePartyClient(self, self._directory.named(name, "compute"))

    def dealer(self, name: str) -> DealerService:
        """Return a client of the dealer."""
        return DealerClient(self, self._directory.named(name, "dealer"))

    def mesh(
        self, ref: SessionRef, names: Sequence[str], lost: Lost = lambda error: None
    ) -> AbstractContextManager[MessageMesh]:
        """Connect with the other compute parties; leaving says goodbye and waits for theirs."""
        parties = {name: self._directory.named(name, "compute") for name in names}
        if self._me.name not in parties or len(parties) != len(names):
            raise ConfigError(f"{self._me.name} connects with different compute parties, itself among them")
        return self._gate.open(
            ref, names, lambda peer, frames: self.call(parties[peer], MESH, frames, self._limits.session_seconds), lost
        )

    def give_up(self, error: MpcdpError) -> None:
        """Break the open mesh with an error, open none any more, wait for no peer and call none."""
        self._gate.abandon(error)

    def greeted(self) -> Mapping[str, tuple[Greeting, float]]:
        """Return the last greeting of every peer that has called this process, and when it arrived, by name."""
        return dict(self._greeted)

    def _note_greeting(self, greeting: Greeting) -> None:
        self._greeted[greeting.name] = greeting, time.time()

    def bytes_sent(self) -> Mapping[str, int]:
        """Return payload bytes sent so far, by peer name."""
        return self._tally.sent()

    def call(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        """Start a call and return its answer; the first call to a peer waits until it is there.

        So does the first call after its connection broke: a peer that is started again has as long as at the start.

        Args:
            peer: whom to call.
            method: e.g. ``"ComputeParty/Upload"``.
            messages: what to send.
            seconds: deadline of the whole call.

        Raises:
            PeerUnavailable: the peer was not there within ``connect_seconds`` (final), or its connection broke.
            PeerTimeout: it is there but does not answer.
            IdentityError: it is somebody else, or does not accept this process.
            MpcdpError: whatever `give_up` was called with.
        """
        if self._gate.abandoned is not None:
            raise self._gate.abandoned
        if peer.name not in self._reached:
            self._reach(peer)
            self._reached.add(peer.name)

        def lose() -> None:
            self._reached.discard(peer.name)

        try:
            return _WatchedStream(self._start(peer, method, self._tally.count(peer.name, messages), seconds), lose)
        except PeerUnavailable:
            lose()
            raise

    def greet(self, name: str, *, seconds: float) -> Greeting:
        """Exchange greetings with a peer once, whatever task it holds.

        Args:
            name: of any other member.
            seconds: deadline.

        Raises:
            PeerUnavailable: it is not there.
            PeerTimeout: it is there but does not answer.
            IdentityError: it is somebody else, or does not accept this process.
            ProtocolError: it speaks another version of the protocol.
        """
        peer = next(member for member in self._directory.members if member.name == name)
        greeting = [codec.write_greeting(greeting_of(self._me, self._task_digest))]
        stream = self._start(peer, REACH, self._tally.count(name, greeting), seconds)
        return codec.read_greeting(Reader(name, stream, self._limits))

    def _reach(self, peer: Member) -> None:
        end = time.monotonic() + self._limits.connect_seconds
        while True:
            try:
                greeting = self.greet(peer.name, seconds=max(end - time.monotonic(), _RETRY_SECONDS))
            except (PeerUnavailable, PeerTimeout) as error:
                if self._gate.abandoned is not None:
                    raise self._gate.abandoned from None
                if time.monotonic() + _RETRY_SECONDS >= end:
                    raise PeerUnavailable(
                        peer.name,
                        f"cannot be reached within {self._limits.connect_seconds:g} s ({error.problem}): "
                        "start it, and check its address under [peers]",
                        final=True,
                    ) from None
                time.sleep(_RETRY_SECONDS)
            else:
                if (problem := other_task(greeting, self._task_digest)) is not None:
                    raise ProtocolError(f"{peer.name}: {problem}")
                if (problem := other_version(greeting)) is not None:
                    _log.warning("another version", peer=peer.name, problem=f"{peer.name}: {problem}")
                return

    def _reception(self, service: Services | None) -> Reception:
        return Reception(
            me=self._me,
            directory=self._directory,
            limits=self._limits,
            service=service,
            gate=self._gate,
            tally=self._tally,
            task_digest=self._task_digest,
            greeted=self._note_greeting,
        )


class _WatchedStream:
    """A peer's answer (fits `mpcdp.transport.mesh.Stream`) that lets us know when its connection broke.

    Args:
        stream: the answer.
        lose: called when it broke.
    """

    def __init__(self, stream: Stream, lose: Callable[[], None]) -> None:
        self._stream = stream
        self._lose = lose

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._stream)
        except PeerUnavailable:
            self._lose()
            raise

    def cancel(self) -> None:
        """Give the call up."""
        self._stream.cancel()
