"""Connections that come to nothing: refused in the TLS handshake, or given up before their first call.

gRPC reports no handshake that fails. It does ask for the certificate to show at the beginning of every one, though, and
every call says from which port it comes: what began and never called was refused, or went away.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

import structlog

from mpcdp.transport.looking import Looking

__all__ = ["Handshakes"]

_REPORT_SECONDS = 10.0
_IDLE_SECONDS = 60.0
"""After so long without a call a port may be another connection's: a system keeps a closed one free for this long."""

_PROBLEM = (
    "connections were refused in the TLS handshake or ended before their first call: their certificate is missing, "
    "expired or of another authority, or they do not speak TLS; the firewall of this machine can log where from"
)
_log = structlog.get_logger("mpcdp.transport")


class Handshakes(Looking):
    """Counts one server's handshakes, and warns of those that failed; a context manager, safe to use from any thread.

    Args:
        seconds: how long a connection may take from its beginning to its first call; longer than any handshake may.
        report: told how many have failed, every ten seconds at most, and at the end.
        clock: seconds, monotonic.

    Guarantees:
        Nobody can fill the log: there is one number in ten seconds. A connection that is well is never counted unless
        its server is overloaded. One that failed may be missed when a member calls again on a connection that has been
        idle for a minute, within the time that this one has.
    """

    def __init__(
        self,
        *,
        seconds: float,
        report: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("handshakes", pause_seconds=_REPORT_SECONDS)
        self._seconds = seconds
        self._report = report or _warn
        self._clock = clock
        self._lock = threading.Lock()
        self._begun: list[float] = []
        self._under_way: dict[str, int] = {}
        self._idle_since: dict[str, float] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.look(patience=0.0)

    def begin(self) -> None:
        """Note that somebody has connected and the handshake begins."""
        with self._lock:
            self._begun.append(self._clock())

    @contextmanager
    def calling(self, peer: str) -> Iterator[None]:
        """Note a call, for as long as it is under way.

        Args:
            peer: address and port that it comes from.
        """
        with self._lock:
            idle_since = self._idle_since.pop(peer, -math.inf)
            known = peer in self._under_way or idle_since > self._clock() - _IDLE_SECONDS
            if not known and self._begun:
                # The latest, so that the time of one that failed is not put off by those that come after it.
                self._begun.pop()
            self._under_way[peer] = self._under_way.get(peer, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[peer] -= 1
                if not self._under_way[peer]:
                    del self._under_way[peer]
                    self._idle_since[peer] = self._clock()

    def look(self, *, patience: float | None = None) -> None:
        """Report the connections that have had their time.

        Args:
            patience: how long that is, seconds; by default what the class was given.
        """
        with self._lock:
            now = self._clock()
            late = now - (self._seconds if patience is None else patience)
            waiting = [begun for begun in self._begun if begun > late]
            failed = len(self._begun) - len(waiting)
            self._begun = waiting
            self._idle_since = {peer: since for peer, since in self._idle_since.items() if since > now - _IDLE_SECONDS}
        if failed:
            self._report(failed)


def _warn(connections: int) -> None:
    _log.warning("handshakes failed", connections=connections, problem=_PROBLEM)
