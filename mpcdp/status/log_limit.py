"""A log that nobody can flood: what others cause is written a few times a minute, and counted."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["LogLimit"]

_WINDOW_SECONDS = 60.0
_KINDS = 10_000
"""More than the members of a task can cause: a few dozen each."""

_VARIABLE = frozenset({"problem", "traceback", "timestamp", "left_out"})
"""Parts of an entry in which a caller could make each entry look new."""

_Kind = tuple[tuple[str, str], ...]
_MORE: _Kind = (("event", "more"),)

_FROM_OUTSIDE = ("caller", "owner", "party")


class LogLimit:
    """Decides which entries of the log are written; safe to use from any thread.

    Only entries that another process can cause, which are those that name one, are ever left out: of each kind (all but
    the wording the same) the first few in every minute are written, and the next minute's first one says how many were
    not.

    Args:
        per_kind: entries of one kind per minute.
        clock: seconds, monotonic.

    Guarantees:
        However many entries one process causes, a few dozen kinds of them are written ``per_kind`` times a minute each;
        no more than ten thousand kinds are told apart.
    """

    def __init__(self, *, per_kind: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_kind = per_kind
        self._clock = clock
        self._lock = threading.Lock()
        self._window = clock()
        self._seen: Counter[_Kind] = Counter()
        self._left_out: Counter[_Kind] = Counter()
        self._total = 0

    def admit(self, entry: Mapping[str, Any]) -> int | None:
        """Decide on one entry.

        Returns:
            How many of its kind were left out in the minute before, to be written along; None to leave it out.
        """
        if not any(key in entry for key in _FROM_OUTSIDE):
            return 0
        kind: _Kind = tuple(sorted((key, str(value)) for key, value in entry.items() if key not in _VARIABLE))
        with self._lock:
            now = self._clock()
            if now - self._window >= _WINDOW_SECONDS:
                self._window = now
                self._left_out = Counter({kind: n - self._per_kind for kind, n in self._seen.items()})
                self._seen.clear()
            if kind not in self._seen and len(self._seen) >= _KINDS:
                kind = _MORE
            self._seen[kind] += 1
            if self._seen[kind] > self._per_kind:
                self._total += 1
                return None
            return max(0, self._left_out.pop(kind, 0))

    @property
    def left_out(self) -> int:
        """How many entries were left out so far."""
        with self._lock:
            return self._total
