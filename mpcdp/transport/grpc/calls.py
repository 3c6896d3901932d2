"""Threads for calls: one each, so many at once, and the others wait for their turn."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent import futures
from typing import Any

__all__ = ["CallThreads"]

_Work = tuple["futures.Future[Any]", Callable[[], Any]]


class CallThreads(futures.Executor):
    """Runs each call on a daemon thread of its own, so that none keeps the process from ending.

    Args:
        most: calls at once. Others wait in the order in which they came, so that a flood of calls that are refused one
            after the other delays everybody's a little and loses nobody's.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[_Work] = deque()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "futures.Future[Any]":
        """Run a call now if there is room, else after those that came before."""
        work: _Work = (futures.Future(), lambda: function(*args, **kwargs))
        with self._lock:
            if self._running == self._most:
                self._waiting.append(work)
                return work[0]
            self._running += 1
        try:
            threading.Thread(target=self._run, args=work, name="call", daemon=True).start()
        except RuntimeError:  # the system gives this process no more threads
            with self._lock:
                self._running -= 1
                if not self._running:
                    raise
                self._waiting.append(work)
        return work[0]

    def _run(self, future: "futures.Future[Any]", call: Callable[[], Any]) -> None:
        while True:
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (it is the future's)
                future.set_exception(error)
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                future, call = self._waiting.popleft()
