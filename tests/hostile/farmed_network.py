"""A local network whose processes are forked by `process_farm`: seconds less for each, and points where they die."""

import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import psutil

from mpcdp.local_network import LocalNetwork

__all__ = ["Farm", "FarmedNetwork"]

_ANSWER_SECONDS = 60.0


class Farm:
    """The process that forks others; a context manager, at whose end all of them are gone."""

    def __init__(self) -> None:
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._started: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._ended: dict[int, int] = {}
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("process_farm.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_ANSWER_SECONDS)
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "pid" in answer:
                self._started.put((answer["id"], answer["pid"]))
            else:
                with self._changed:
                    self._ended[answer["id"]] = answer["code"]
                    self._changed.notify_all()

    def start(self, **request: Any) -> "FarmedProcess":
        """Start a process; see `process_farm`."""
        with self._lock:
            assert self._process.stdin is not None
            number = next(self._ids)
            self._process.stdin.write(json.dumps({"id": number, **request}).encode() + b"\n")
            self._process.stdin.flush()
            answered, pid = self._started.get(timeout=_ANSWER_SECONDS)
        assert answered == number
        return FarmedProcess(self, number, pid)

    def code(self, number: int, seconds: float) -> int | None:
        """Wait for the end of the process of a request, and return its exit code."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._ended, seconds)
            return self._ended.get(number)


class FarmedProcess:
    """A process of a farm; what `LocalNetwork` needs of `subprocess.Popen`."""

    def __init__(self, farm: Farm, number: int, pid: int) -> None:
        self._farm = farm
        self._number = number
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._farm.code(self._number, 0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._farm.code(self._number, timeout if timeout is not None else _ANSWER_SECONDS)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class FarmedNetwork(LocalNetwork):
    """A network's processes, started by a farm.

    Args:
        directory: of the network.
        farm: which starts them.
        noise: whether compute parties use the noise that they take; without, they use zeros instead.
    """

    def __init__(self, directory: Path, farm: Farm, *, noise: bool = False) -> None:
        super().__init__(directory)
        self._farm = farm
        self._noise = noise
        self._arms: dict[str, list[str]] = {}

    def arm(self, name: str, *points: str) -> None:
        """Let the next process of this name die at a point, or freeze with ``"stop after ..."``.

        Args:
            name: of the process.
            points: see `crash_points.point`.
        """
        self._arms[name] = list(points)

    def start(self, *names: str) -> None:
        """Start processes by name, all by default."""
        for name in names or self.names:
            role, config = self._configs[name]
            child = self._farm.start(
                role=role,
                config=str(config),
                log=str(self.log(name)),
                arms=self._arms.pop(name, []),
                noise=self._noise,
            )
            self._processes[name] = cast("subprocess.Popen[bytes]", child)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process, if it still runs."""
        self.process(name).send_signal(number)

    def wait_for_death(self, name: str, seconds: float) -> bool:
        """Wait until a process was killed; False if everything else ended without it, or time is up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (code := self.process(name).poll()) is not None:
                return code == -signal.SIGKILL
            time.sleep(0.02)
        return False

    def wait_for_stop(self, name: str, seconds: float) -> None:
        """Wait until a process is frozen.

        Raises:
            AssertionError: it ended, or time is up.
        """
        end = time.monotonic() + seconds
        while psutil.Process(self.process(name).pid).status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < end, f"{name} never came to that point"
            time.sleep(0.02)

    def running(self) -> Sequence[str]:
        """Return the processes that have not ended."""
        return [name for name, process in self._processes.items() if process.poll() is None]
