"""Starts the processes of a row on loopback, waits for their reports, and leaves nothing behind."""

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mpcdp.bench.report import Report
from mpcdp.bench.setting import Setting
from mpcdp.errors import PeerError, PeerTimeout
from mpcdp.local_network import free_ports
from mpcdp.transport.tls import Authority, write_private

__all__ = ["Command", "run_processes", "worker_command"]

Command = Callable[[Path, str], list[str]]
"""Makes the command line of a process from the row's folder and the process's name."""

_STOP_SECONDS = 5.0
_POLL_SECONDS = 0.05
_AFTERMATH_SECONDS = 1.0
"""When one process has failed, the others have this long to fail as well, so that the cause can be told apart."""


def worker_command(folder: Path, name: str) -> list[str]:
    """Return the command line of `mpcdp.bench.worker`."""
    return [sys.executable, "-m", "mpcdp.bench.worker", str(folder), name]


def run_processes(setting: Setting, *, command: Command = worker_command) -> Mapping[str, Report]:
    """Run all processes of a row, each with a certificate of an authority that exists for this row alone.

    Args:
        setting: what to measure; its session and its addresses are chosen here.
        command: what to start; a test may put its own worker here.

    Returns:
        The report of every process by its name.

    Raises:
        PeerError: a process failed.
        PeerTimeout: a process did not end in time.

    Whatever happens, no process is left running, and the folder with keys, logs and reports is removed.
    """
    names = setting.process_names
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)}
    placed = replace(setting, session=secrets.token_hex(32), addresses=addresses)
    with tempfile.TemporaryDirectory(prefix="mpcdp-bench-") as path:
        folder = Path(path)
        placed.save(folder / "setting.json")
        _write_credentials(folder, placed)
        _run_all(folder, placed, command)
        return {name: Report.load(folder / name / "report.json") for name in names}


def _write_credentials(folder: Path, setting: Setting) -> None:
    authority = Authority("mpcdp benchmark")
    for member in setting.members:
        own = folder / member.name
        own.mkdir(mode=0o700)
        certificate, key = authority.issue(member.certificate)
        (own / "authority.crt").write_bytes(authority.certificate)
        (own / "process.crt").write_bytes(certificate)
        write_private(own / "process.key", key)


def _run_all(folder: Path, setting: Setting, command: Command) -> None:
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in setting.process_names:
            with (folder / name / "log.txt").open("wb") as log:
                # The pipe tells a worker that this process is gone.
                processes[name] = subprocess.Popen(  # noqa: S603 (our own command)
                    command(folder, name), stdin=subprocess.PIPE, stdout=log, stderr=log
                )
        _wait(folder, processes, setting.total_seconds)
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
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    raise PeerError(cause, f"its benchmark ended with exit code {failed[cause]}: {last}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
