"""A thread that looks at something again and again."""

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["Looking"]


class Looking(ABC):
    """Looks every so often, until its context ends; a context manager.

    Args:
        name: of its thread.
        pause_seconds: between two looks.
    """

    def __init__(self, name: str, *, pause_seconds: float) -> None:
        self._pause_seconds = pause_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @abstractmethod
    def look(self) -> None:
        """Look once, on this thread."""

    def _run(self) -> None:
        while not self._over.wait(self._pause_seconds):
            self.look()
