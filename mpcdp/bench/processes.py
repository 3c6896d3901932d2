"""Starts the processes of a row on loopback, waits for their reports, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, Self, TextIO, TypeVar

import structlog

from mpcdp.config import TlsFiles
from mpcdp.errors import PeerError, PeerTimeout
from mpcdp.local_network import free_ports
from mpcdp.transport.channel import Member
from mpcdp.transport.tls import Authority, write_private

__all__ = [
    "Command",
    "Job",
    "credentials_of",
    "end_with_parent",
    "log_as_processes_do",
    "run_processes",
    "wait_without_looking",
    "worker_command",
]

_WAIT_SECONDS = 60.0

Command = Callable[[Path, str], list[str]]
"""Makes the command line of a process from the row's folder and the process's name."""

_Report = TypeVar("_Report")
_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05
_AFTERMATH_SECONDS = 1.0
"""When one process has failed, the others have this long to fail as well, so that the cause can be told apart."""


class Job(Protocol):
    """What a row's processes have to know; they read it from ``setting.json``."""

    @property
    def process_names(self) -> tuple[str, ...]:
        """All processes, in the order in which they are started."""
        ...

    @property
    def members(self) -> tuple[Member, ...]:
        """Whoever needs a certificate; a process may run several members, or be one."""
        ...

    @property
    def total_seconds(self) -> float:
        """How long all processes may take at most."""
        ...

    def placed(self, addresses: Mapping[str, str]) -> Self:
        """Return the same job, fresh, with the address of every member that listens: all but owners."""
        ...

    def save(self, path: Path) -> None:
        """Write it for the processes."""
        ...


def worker_command(folder: Path, name: str) -> list[str]:
    """Return the command line of `mpcdp.bench.worker`."""
    return [sys.executable, "-m", "mpcdp.bench.worker", str(folder), name]


def run_processes(job: Job, load: Callable[[Path], _Report], *, command: Command) -> Mapping[str, _Report]:
    """Run all processes of a row, each member with a certificate of an authority that exists for this row alone.

    Args:
        job: what to measure; its addresses are chosen here.
        load: reads a process's report.
        command: what to start; a test may put its own worker here.

    Returns:
        The report of every process by its name.

    Raises:
        PeerError: a process failed.
        PeerTimeout: a process did not end in time.

    Whatever happens, no process is left running, and the folder with keys, logs and reports is removed.
    """
    names = [member.name for member in job.members if member.role != "owner"]
    placed = job.placed({name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)})
    with tempfile.TemporaryDirectory(prefix="mpcdp-bench-") as path:
        folder = Path(path)
        placed.save(folder / "setting.json")
        _write_credentials(folder, placed)
        _run_all(folder, placed, command)
        return {name: load(folder / name / "report.json") for name in placed.process_names}


def credentials_of(folder: Path, member: str) -> TlsFiles:
    """Return where a member of a row finds its credentials."""
    own = folder / member
    return TlsFiles(authority=own / "authority.crt", certificate=own / "process.crt", key=own / "process.key")


def end_with_parent() -> None:
    """End when whoever started this process is gone, however it went; a Ctrl-C in the terminal is theirs to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        os.read(0, 1)  # a pipe that nobody writes to
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def log_as_processes_do(file: TextIO) -> None:
    """Write the same log as the product's processes, which is part of what they cost."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=file),
    )


def wait_without_looking() -> None:
    """Let callers of gRPC wait for their answers without looking up; for a process of many owners.

    Whoever waits for a gRPC answer looks ten times a second whether a signal has come. That is nothing for an owner in
    a process of its own, as in earnest, but hundreds of them together would measure little else.
    """
    from grpc import _common  # by those that call, not by whoever starts them

    vars(_common)["MAXIMUM_WAIT_TIMEOUT"] = _WAIT_SECONDS


def _write_credentials(folder: Path, job: Job) -> None:
    authority = Authority("mpcdp benchmark")
    for member in job.members:
        files = credentials_of(folder, member.name)
        files.key.parent.mkdir(mode=0o700)
        certificate, key = authority.issue(member.certificate)
        files.authority.write_bytes(authority.certificate)
        files.certificate.write_bytes(certificate)
        write_private(files.key, key)


def _run_all(folder: Path, job: Job, command: Command) -> None:
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in job.process_names:
            (folder / name).mkdir(mode=0o700, exist_ok=True)
            with (folder / name / "log.txt").open("wb") as log:
                # The pipe tells a worker that this process is gone.
                processes[name] = subprocess.Popen(  # noqa: S603 (our own command)
                    command(folder, name), stdin=subprocess.PIPE, stdout=log, stderr=log
                )
        _wait(folder, processes, job.total_seconds)
    finally:
        for process in processes.values():
            process.terminate()  # does nothing to one that has ended
        for process in processes.values():
            _end(process)


def _wait(folder: Path, processes: Mapping[str, "subprocess.Popen[bytes]"], seconds: float) -> None:
    end = time.monotonic() + seconds
    while any(process.poll() is None for process in processes.values()):
        _check(folder, processes)
        if time.monotonic() > end:
            late = next(name for name, process in processes.items() if process.poll() is None)
            raise PeerTimeout(late, f"its benchmark did not end within {seconds:g} s: try a smaller --dimension")
        time.sleep(_POLL_SECONDS)
    _check(folder, processes)


def _check(folder: Path, processes: Mapping[str, "subprocess.Popen[bytes]"]) -> None:
    if not any(process.poll() for process in processes.values()):
        return
    time.sleep(_AFTERMATH_SECONDS)
    failed = {name: process.returncode for name, process in processes.items() if process.poll()}
    # A process that merely noticed another one's end is not the cause.
    cause = min(failed, key=lambda name: failed[name] == PeerError.exit_code)
    lines = (folder / cause / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    # Threads that still end may write their JSON log below the error.
    last = next((line for line in reversed(lines) if line.strip() and not line.startswith("{")), "it said nothing")
    raise PeerError(cause, f"its benchmark ended with exit code {failed[cause]}: {last}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
