"""A network that takes note of what it sends, and when."""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from mpcdp.transport.access import REACH
from mpcdp.transport.channel import Member, MessageMesh
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.mesh import Lost, Stream
from mpcdp.transport.messages import SessionRef

__all__ = ["Exchange", "Meter", "MeteredNetwork"]

_HANDSHAKES = 2


@dataclass(frozen=True)
class Exchange:
    """One exchange between the compute parties, seen from one of them.

    Args:
        operation: what it was for.
        start: when it began, in seconds of the machine's monotonic clock, the same for all processes.
        end: when every other party's message was there.
    """

    operation: str
    start: float
    end: float


@dataclass
class Meter:
    """What was noted.

    Args:
        sent: payload bytes by method of a call, and by operation of an exchange.
        calls: peer and method of every call, greetings included, in order.
        exchanges: in order.
    """

    sent: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[str, str]] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)

    def message_rounds(self, peers: Collection[str]) -> int:
        """Count the messages that the calls to some peers take one after another.

        A call is a question and its answer. The first one to a peer is a greeting, before which TCP and TLS shake
        hands; one that is repeated, because the peer is not up yet, counts once.
        """
        count, last = 0, dict.fromkeys(peers, "")
        for peer, method in self.calls:
            if peer in last:
                if method != REACH:
                    count += 1
                elif last[peer] != REACH:
                    count += 1 + _HANDSHAKES
                last[peer] = method
        return count


class MeteredNetwork(GrpcNetwork):
    """A network that also notes its calls, and its mesh's exchanges; its maker sets ``meter``."""

    meter: Meter

    def call(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        return super().call(peer, method, self._count(method, messages), seconds)

    def _start(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        self.meter.calls.append((peer.name, method))
        return super()._start(peer, method, messages, seconds)

    def _count(self, method: str, messages: Iterable[bytes]) -> Iterator[bytes]:
        for message in messages:
            self.meter.sent[method] += len(message)
            yield message

    def mesh(
        self, ref: SessionRef, names: Sequence[str], lost: Lost = lambda error: None
    ) -> AbstractContextManager[MessageMesh]:
        return self._metered(super().mesh(ref, names, lost))

    @contextmanager
    def _metered(self, opening: AbstractContextManager[MessageMesh]) -> Iterator[MessageMesh]:
        with opening as mesh:
            yield _MeteredMesh(mesh, self.meter)


class _MeteredMesh:
    """A mesh that notes its exchanges."""

    def __init__(self, mesh: MessageMesh, meter: Meter) -> None:
        self._mesh = mesh
        self._meter = meter
        self.rank = mesh.rank
        self.size = mesh.size

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        self._meter.sent[operation] += memoryview(payload).nbytes * (self.size - 1)
        start = time.monotonic()
        received = self._mesh.exchange(operation, payload)
        self._meter.exchanges.append(Exchange(operation, start, time.monotonic()))
        return received
