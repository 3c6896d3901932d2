"""A slow network on loopback: a proxy that lets bytes arrive later, and no more of them than a line carries.

For measuring only; it looks at nothing, and what passes is TLS. Each address has an access line of its own, one way in
and one way out, that all connections to it share. A byte waits until the line is free, takes its time on it, and
arrives half a round trip later; those behind it are under way meanwhile, as on a real link. What is left out: lost
packets, TCP's slow start and congestion control, and the bytes that TCP and IP add.
"""

import asyncio
import math
import select
import selectors
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from mpcdp.roles.process import open_many_files

__all__ = ["FAST", "Line", "Link", "SlowNetwork"]

_T = TypeVar("_T")
_BACKLOG_SECONDS = 0.1
"""What a line's buffer holds; a sender waits for more, as TCP makes it do."""
_START_SECONDS = 30.0


@dataclass(frozen=True)
class Link:
    """What lies between two processes.

    Args:
        round_trip_ms: added to every round trip, half of it each way.
        bandwidth_mbit: of each listening process's access line, 10^6 bits a second each way; None for no limit.

    Raises:
        ValueError: a number is negative, or the bandwidth is 0.
    """

    round_trip_ms: float = 0.0
    bandwidth_mbit: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.round_trip_ms < math.inf) or (self.bandwidth_mbit is not None and self.bandwidth_mbit <= 0):
            raise ValueError("a round trip takes no negative time, and a line has a bandwidth above 0")

    @property
    def one_way_seconds(self) -> float:
        """How long a byte is under way."""
        return self.round_trip_ms / 2000

    @property
    def seconds_per_byte(self) -> float:
        """How long it takes the line."""
        return 0.0 if self.bandwidth_mbit is None else 8e-6 / self.bandwidth_mbit


FAST = Link()
"""Loopback as it is."""


class Line:
    """One way of an access line: first come, first served.

    Args:
        link: its delay and bandwidth.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._free = -math.inf

    def take(self, count: int, now: float) -> float:
        """Put bytes on the line.

        Args:
            count: how many.
            now: in seconds.

        Returns:
            When the last one arrives.
        """
        self._free = max(now, self._free) + count * self._link.seconds_per_byte
        return self._free + self._link.one_way_seconds

    def backlog(self, now: float) -> float:
        """Return the seconds until what waits is on its way."""
        return max(0.0, self._free - now)


class SlowNetwork:
    """Forwards connections over slow lines; a context manager. Use `add` for every address that is called through it.

    Args:
        link: what every line is like.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.SelectorEventLoop(_FineSelector())
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow-network", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._ends: set[_End] = set()

    def __enter__(self) -> Self:
        open_many_files()  # every connection that is forwarded takes two
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, address: str) -> str:
        """Return an address of this machine that leads to another one, ``"host:port"``, over a line of its own."""
        return self._run(self._listen(address))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_SECONDS)

    async def _listen(self, address: str) -> str:
        host, _, port = address.rpartition(":")
        lines = Line(self._link), Line(self._link)

        def accept() -> "_End":
            end = _End(self._loop, lines[0], self._ends)
            # A connection takes a round trip before its first byte can leave.
            self._loop.call_later(self._link.round_trip_ms / 1000, self._connect, end, host, int(port), lines[1])
            return end

        server = await self._loop.create_server(accept, "127.0.0.1", 0, backlog=1000)
        self._servers.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def _connect(self, near: "_End", host: str, port: int, line: Line) -> None:
        async def connect() -> None:
            try:
                _, far = await self._loop.create_connection(lambda: _End(self._loop, line, self._ends), host, port)
            except OSError:
                near.abort()
            else:
                near.join(far)

        self._loop.create_task(connect())

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for end in tuple(self._ends):
            end.abort()
        await asyncio.sleep(0)


class _FineSelector(selectors.EpollSelector):
    """Waits to the microsecond; epoll itself waits for whole milliseconds, as long as a short round trip."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


class _End(asyncio.Protocol):
    """One end of a connection that is forwarded; what it reads goes over a line to the other end.

    Args:
        loop: runs it.
        line: takes what is read here.
        ends: all open ends, this one among them while it is open.
    """

    _transport: asyncio.Transport
    _other: "_End | None" = None
    _lost = False
    _crowded = False
    """The other end's socket takes no more for now."""
    _ended = False
    """Nothing more comes from here, and the other end knows."""

    def __init__(self, loop: asyncio.AbstractEventLoop, line: Line, ends: "set[_End]") -> None:
        self._loop = loop
        self._line = line
        self._ends = ends
        # In order. All their timers are alike: each lets the next one arrive.
        self._under_way: deque[Callable[[_End], None]] = deque()

    def join(self, other: "_End") -> None:
        """Forward between this end, which has read nothing yet, and another one."""
        self._other, other._other = other, self
        for each, peer in ((self, other), (other, self)):
            each._resume()
            if each._lost:
                peer.abort()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ends.add(self)
        self._transport.pause_reading()  # until it is joined

    def data_received(self, data: bytes) -> None:
        self._send(len(data), lambda other: other._transport.write(data))
        backlog = self._line.backlog(self._loop.time())
        if backlog > _BACKLOG_SECONDS:
            self._transport.pause_reading()
            self._loop.call_later(backlog - _BACKLOG_SECONDS / 2, self._resume)

    def eof_received(self) -> bool:
        self._send(0, self._end)
        return True  # the other way stays open

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self._ends.discard(self)
        self._send(0, _End.abort if error is not None else _End._close)

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other._crowded = True
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other._crowded = False
            self._other._resume()

    def _send(self, count: int, arrive: "Callable[[_End], None]") -> None:
        """Let something happen at the other end once so many bytes have got there."""
        self._under_way.append(arrive)
        self._loop.call_at(self._line.take(count, self._loop.time()), self._arrive)

    def _arrive(self) -> None:
        arrive = self._under_way.popleft()
        if self._other is not None and not self._other._lost:
            arrive(self._other)

    def _end(self, other: "_End") -> None:
        with suppress(OSError):  # that end is gone, and will say so
            other._transport.write_eof()
        self._ended = True
        if other._ended:
            self._close()
            other._close()

    def _resume(self) -> None:
        if not self._crowded and not self._lost:
            self._transport.resume_reading()

    def _close(self) -> None:
        self._transport.close()
