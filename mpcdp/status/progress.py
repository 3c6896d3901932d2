"""What a process's own log says about how far it is.

The roles know nothing of this: `Progress.note` sees every entry of the structured log, so an event that is logged is an
event that is shown.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

__all__ = ["BUCKETS", "STATES", "Notice", "Progress", "Seen", "SessionState"]

SessionState = Literal["starting", "waiting", "running", "finished", "failed"]
STATES: tuple[SessionState, ...] = get_args(SessionState)

BUCKETS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Upper ends, in seconds, of the classes in which rounds are counted; the last class has none."""

_STATE_AFTER: Mapping[str, SessionState] = MappingProxyType(
    {
        "waiting for a session": "waiting",
        "waiting for owners": "waiting",
        "joining": "waiting",
        "session opened": "running",
        "prepared": "running",
        "charged": "running",
        "session finished": "finished",
        "the session of this task is over": "finished",
        "finished": "finished",
        "failed": "failed",
    }
)
_ROUND_OVER = frozenset({"round released", "revealed", "uploaded"})
_OWNER_CAME = frozenset({"owner joined", "owner enrolled"})
_OWNER_WENT = frozenset({"owner left"})
_REFUSALS = frozenset({"refused", "handshakes failed"})

EVENTS = frozenset({*_STATE_AFTER, *_ROUND_OVER, *_OWNER_CAME, *_OWNER_WENT, *_REFUSALS})
"""Events of the log that are followed."""

_NOTICES = 10
_CHARACTERS = 300


@dataclass(frozen=True)
class Notice:
    """A warning or an error that was logged.

    Args:
        when: seconds since 1970, of the last time.
        level: ``"warning"``, ``"error"`` or ``"critical"``.
        event: what was logged.
        text: what was wrong, and with whom.
        count: how often, one after the other.
    """

    when: float
    level: str
    event: str
    text: str
    count: int = 1


@dataclass(frozen=True)
class Seen:
    """What was seen in the log up to now.

    Args:
        state: of the session.
        rounds: how many are over.
        owners: names of those present.
        charged: epsilon that an owner's ledger has paid.
        refused: calls refused, by kind of error.
        handshakes_failed: connections that came to no call.
        notices: the last problems of this process, newest first.
        refusals: the last calls and connections that it refused, newest first; apart, so that a flood of them hides no
            problem.
        round_counts: rounds in each of `BUCKETS`, and above.
        round_seconds: time of all of them together.
    """

    state: SessionState = "starting"
    rounds: int = 0
    owners: frozenset[str] = frozenset()
    charged: float = 0.0
    refused: Mapping[str, int] = field(default_factory=dict)
    handshakes_failed: int = 0
    notices: tuple[Notice, ...] = ()
    refusals: tuple[Notice, ...] = ()
    round_counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    round_seconds: float = 0.0


class Progress:
    """Follows the log of one process; safe to use from any thread.

    Guarantees:
        Memory is bounded: owners are those of the task, kinds of errors those of the code, and few problems are kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: SessionState = "starting"
        self._rounds = 0
        self._owners: set[str] = set()
        self._charged = 0.0
        self._refused: Counter[str] = Counter()
        self._handshakes_failed = 0
        self._notices: deque[Notice] = deque(maxlen=_NOTICES)
        self._refusals: deque[Notice] = deque(maxlen=_NOTICES)
        self._round_counts = [0] * (len(BUCKETS) + 1)
        self._round_seconds = 0.0
        self._last_reveal: float | None = None

    def note(self, entry: Mapping[str, Any]) -> None:
        """Take in one entry of the log."""
        event, level = str(entry.get("event", "")), str(entry.get("level", ""))
        with self._lock:
            self._state = _STATE_AFTER.get(event, self._state)
            if event == "internal error" and "caller" not in entry:  # of the process, not of one call
                self._state = "failed"
            if event == "charged":
                self._charged = float(entry.get("epsilon", 0.0))
            if event in _ROUND_OVER:
                self._end_round(event, entry)
            if event in _OWNER_CAME:
                self._owners.add(str(entry.get("owner", "")))
            if event in _OWNER_WENT:
                self._owners.discard(str(entry.get("owner", "")))
            if event == "refused":
                self._refused[str(entry.get("error", ""))] += 1
            if event == "handshakes failed":
                self._handshakes_failed += int(entry.get("connections", 1))
            if level in ("warning", "error", "critical"):
                _add(self._refusals if event in _REFUSALS else self._notices, _notice(event, level, entry))

    def _end_round(self, event: str, entry: Mapping[str, Any]) -> None:
        self._rounds = max(self._rounds, int(entry.get("round", 0)) + 1)
        now = time.monotonic()
        seconds = entry.get("seconds")
        if event == "revealed":  # a compute party: from one reveal to the next
            seconds = None if self._last_reveal is None else now - self._last_reveal
            self._last_reveal = now
        if seconds is not None:
            self._round_counts[sum(end < seconds for end in BUCKETS)] += 1
            self._round_seconds += float(seconds)

    def seen(self) -> Seen:
        """Return what was seen up to now."""
        with self._lock:
            return Seen(
                state=self._state,
                rounds=self._rounds,
                owners=frozenset(self._owners),
                charged=self._charged,
                refused=dict(self._refused),
                handshakes_failed=self._handshakes_failed,
                notices=tuple(self._notices),
                refusals=tuple(self._refusals),
                round_counts=tuple(self._round_counts),
                round_seconds=self._round_seconds,
            )


def _notice(event: str, level: str, entry: Mapping[str, Any]) -> Notice:
    who = entry.get("caller") or entry.get("owner") or entry.get("at")
    what = entry.get("problem") or entry.get("error") or ""
    text = f"{who}: {what}" if who and not str(what).startswith(str(who)) else str(what)
    shown = "".join(character if character.isprintable() else " " for character in text)
    return Notice(when=time.time(), level=level, event=event[:_CHARACTERS], text=shown[:_CHARACTERS])


def _add(notices: "deque[Notice]", new: Notice) -> None:
    """Put a notice first; one that is there already is counted instead."""
    for old in notices:
        if (old.level, old.event, old.text) == (new.level, new.event, new.text):
            notices.remove(old)
            new = Notice(new.when, new.level, new.event, new.text, old.count + 1)
            break
    notices.appendleft(new)
