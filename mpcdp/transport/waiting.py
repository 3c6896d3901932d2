"""How a request waits for what another thread answers: as long as its caller does, and no longer.

A caller whose connection breaks calls again. What waited for it before must end then, or the threads of callers that
are gone would use up the calls that each may have under way.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

from mpcdp.errors import PeerUnavailable

__all__ = ["WhenGone", "answer_on_this_thread", "wait_with_caller"]

WhenGone = Callable[[Callable[[], None]], None]
"""Registers a function to be called, on any thread, when the caller is gone."""

_T = TypeVar("_T")
_call = threading.local()


def answer_on_this_thread(caller: str, when_gone: WhenGone) -> None:
    """Say whose call this thread answers; a thread answers one call."""
    _call.caller, _call.when_gone = caller, when_gone


def wait_with_caller(answer: "Future[_T]", seconds: float) -> _T:
    """Wait on a call's thread for an answer that many calls may be waiting for.

    Raises:
        TimeoutError: it did not come in time.
        PeerUnavailable: the caller is gone; nobody will read this.
        BaseException: whatever the answer is.
    """
    mine: Future[_T] = Future()
    caller: str = getattr(_call, "caller", "the caller")

    def hand_on(done: "Future[_T]") -> None:
        with suppress(InvalidStateError):
            if (error := done.exception()) is not None:
                mine.set_exception(error)
            else:
                mine.set_result(done.result())

    def give_up() -> None:
        with suppress(InvalidStateError):
            mine.set_exception(PeerUnavailable(caller, "it did not wait for the answer"))

    answer.add_done_callback(hand_on)
    when_gone: WhenGone | None = getattr(_call, "when_gone", None)
    if when_gone is not None and not mine.done():
        when_gone(give_up)
    return mine.result(seconds)
