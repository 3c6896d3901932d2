"""What the coordinator tells the owners that attend: where the session stands, to each from where it left off."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

from mpcdp.errors import ProcessStopped
from mpcdp.transport.messages import (
    Aborted,
    Finished,
    Release,
    Released,
    RoundStarted,
    SessionEvent,
    SessionRef,
    SessionStarted,
)

__all__ = ["Attending", "Progress"]


@dataclass
class Progress:
    """Where a session stands; read and changed by whoever holds its owner's lock.

    Args:
        released: reads the release of a round; only those of the last rounds are kept in memory.
        ref: the session, once it has started.
        releases: number of rounds released.
        open_round: the round that contributions are wanted for.
        end: the last event, once there is one; an error is raised instead.
    """

    released: Callable[[int], Release]
    ref: SessionRef | None = None
    releases: int = 0
    open_round: int | None = None
    end: Finished | Aborted | ProcessStopped | None = None


@dataclass
class _Told:
    """What one attending owner knows."""

    started: bool = False
    releases: int = 0
    open_round: int = -1
    over: bool = False


@dataclass(eq=False)
class Attending(Iterator[SessionEvent]):
    """The events of one owner's attendance, until the owner leaves.

    What comes next is computed from where the session stands and what the owner was told, so that an owner that comes
    late or is slow costs no memory: it is told one release after the other, from disk.

    Args:
        progress: of the session.
        lock: held while that is read.
        leave: called with this when the attendance is over, perhaps more than once, on any thread.
        event_seconds: how long to wait for an event.
        leaving_seconds: how long the owner may stay after the last one, to compare it with the compute parties.
    """

    progress: Progress
    lock: threading.Condition
    leave: Callable[[Self], None]
    event_seconds: float
    leaving_seconds: float
    _news: threading.Event = field(default_factory=threading.Event)
    _told: _Told = field(default_factory=_Told)
    _gone: bool = False

    def wake(self) -> None:
        """Look again: the session stands elsewhere."""
        self._news.set()

    def close(self) -> None:
        """End the attendance: the owner is gone."""
        self._gone = True
        self.leave(self)
        self._news.set()

    def __next__(self) -> SessionEvent:
        if self._told.over:
            while not self._gone and self._news.wait(self.leaving_seconds):
                self._news.clear()
            self.leave(self)
            raise StopIteration
        while not self._gone:
            self._news.clear()
            with self.lock:
                event = self._next()
            if event is not None:
                return event
            if not self._news.wait(self.event_seconds):
                self._told.over = True
                return Aborted("the session took longer than the task allows: raise its deadlines")
        raise StopIteration

    def _next(self) -> SessionEvent | None:
        """Return what the owner has to be told next, if anything."""
        progress, told = self.progress, self._told
        if isinstance(progress.end, ProcessStopped):
            raise progress.end
        if isinstance(progress.end, Aborted):
            told.over = True
            return progress.end
        if progress.ref is None:
            return None
        if not told.started:
            told.started = True
            return SessionStarted(progress.ref)
        if told.releases < progress.releases:
            return self._release(progress.ref)
        if progress.end is not None:
            told.over = True
            return Finished(ref=progress.ref, last=None)
        if progress.open_round is not None and told.open_round < progress.open_round:
            told.open_round = progress.open_round
            return RoundStarted(ref=progress.ref, round_index=progress.open_round, previous=None)
        return None

    def _release(self, ref: SessionRef) -> SessionEvent:
        """Tell the next release, together with the event after it if there is one."""
        progress, told = self.progress, self._told
        index = told.releases
        release = progress.released(index)
        told.releases += 1
        if told.releases == progress.releases:
            if progress.open_round == told.releases:
                told.open_round = progress.open_round
                return RoundStarted(ref=ref, round_index=progress.open_round, previous=release)
            if progress.end is not None:
                told.over = True
                return Finished(ref=ref, last=release)
        return Released(ref=ref, round_index=index, release=release)
