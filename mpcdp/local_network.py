"""A whole network on one machine: real processes on loopback, started and ended together."""

import json
import math
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import tomli_w

from mpcdp.errors import ConfigError
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.task import load_task
from mpcdp.transport.channel import Member, Role
from mpcdp.transport.tls import Authority, write_private

__all__ = [
    "AFTERMATH_SECONDS",
    "LocalNetwork",
    "ProcessResult",
    "Site",
    "create_network",
    "first_cause",
    "free_ports",
    "hosts_by_name",
    "on_loopback",
]

_ROLES: tuple[Role, ...] = ("coordinator", "dealer", "compute", "owner")
_STOP_SECONDS = 5.0
_LONGEST_LINE = 2000

AFTERMATH_SECONDS = 20.0
"""When one process has failed, the others have this long to end by themselves."""


@dataclass(frozen=True)
class ProcessResult:
    """How a process ended.

    Args:
        name: of the process in the task.
        role: what it did.
        exit_code: 0 for success, see `mpcdp.errors`; negative for a signal.
        log: its structured log, one JSON object per line.
        report: its ``report.json``, empty if it wrote none.
    """

    name: str
    role: Role
    exit_code: int
    log: Path
    report: Mapping[str, Any]

    def problem(self) -> str:
        """Return the last error in the log, in words."""
        problem = f"{self.name} ended with exit code {self.exit_code}: see {self.log}"
        for entry in _log_entries(self.log):
            if entry.get("level") == "error":
                problem = str(entry.get("problem", entry.get("event")))
        return problem

    def last_lines(self, count: int) -> tuple[str, ...]:
        """Return the last lines of the log, long ones without their middle; none holds a share, a key or a record."""
        if not self.log.exists():
            return ()
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return tuple(
            line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"
            for line in lines[-count:]
        )


def first_cause(results: Sequence[ProcessResult]) -> ProcessResult | None:
    """Return the process whose failure explains the others', None if all succeeded.

    One that refused or found a file wrong comes before those that missed it (exit code 4), and these before those that
    were told or stopped (5, or a signal).
    """
    failed = [result for result in results if result.exit_code]
    rank = {1: 0, 2: 0, 3: 0, 4: 1}
    return min(failed, key=lambda result: rank.get(result.exit_code, 2), default=None)


class LocalNetwork:
    """The processes of a folder made by `mpcdp network new`.

    A context manager: whatever happens, no process is left running at its end.

    Args:
        directory: the network's folder.
        command: makes the command line of a process from its role and config; the default runs ``parties``.

    Raises:
        ConfigError: the folder holds no network.
    """

    def __init__(self, directory: Path, *, command: Callable[[Role, Path], list[str]] | None = None) -> None:
        self._command = command or _party_command
        self._configs = {
            config.parent.name: (role, config) for role in _ROLES for config in sorted(directory.glob(f"*/{role}.toml"))
        }
        if not self._configs:
            raise ConfigError(f"{directory} holds no network: make one with `mpcdp network new {directory}`")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def names(self) -> tuple[str, ...]:
        """All processes, servers first."""
        return tuple(self._configs)

    def start(self, *names: str) -> None:
        """Start processes by name, all by default."""
        for name in names or self.names:
            role, config = self._configs[name]
            with self.log(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(  # noqa: S603 (our own command)
                    self._command(role, config), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def process(self, name: str) -> "subprocess.Popen[bytes]":
        """Return a started process."""
        return self._processes[name]

    def log(self, name: str) -> Path:
        """Return where a process writes its log."""
        return self._configs[name][1].parent / "log.jsonl"

    def state(self, name: str) -> Path:
        """Return a process's state folder."""
        config = self._configs[name][1]
        with config.open("rb") as file:
            return config.parent / str(tomllib.load(file)["state"])

    def events(self, name: str) -> Iterator[Mapping[str, Any]]:
        """Read what a process has logged so far."""
        return _log_entries(self.log(name))

    def wait(
        self, seconds: float, *, progress: Callable[[], None] | None = None, after_failure: float = math.inf
    ) -> tuple[ProcessResult, ...]:
        """Wait for all started processes, then stop those still running.

        Args:
            seconds: how long to wait at most.
            progress: called several times a second.
            after_failure: how long to go on waiting once a process has failed: long enough for the others to say why.
        """
        end = time.monotonic() + seconds
        while None in (codes := [process.poll() for process in self._processes.values()]) and time.monotonic() < end:
            if any(codes):
                end, after_failure = min(end, time.monotonic() + after_failure), math.inf
            if progress is not None:
                progress()
            time.sleep(0.05)
        self.stop()
        return tuple(self._result(name) for name in self._processes)

    def stop(self) -> None:
        """End every process that still runs: first asked, then killed."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _result(self, name: str) -> ProcessResult:
        role, _ = self._configs[name]
        report = self.state(name) / "report.json"
        return ProcessResult(
            name=name,
            role=role,
            exit_code=self._processes[name].returncode,
            log=self.log(name),
            report=json.loads(report.read_text(encoding="utf-8")) if report.exists() else {},
        )


@dataclass(frozen=True)
class Site:
    """Where a process that listens can be found.

    Args:
        address: what its peers call, ``"host:port"``.
        listen: what it listens at, ``"host:port"``.
    """

    address: str
    listen: str


def on_loopback(servers: Sequence[str]) -> dict[str, Site]:
    """Give every server a free port of this machine, which nobody outside it can reach."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(len(servers))]
    return {name: Site(address, address) for name, address in zip(servers, addresses, strict=True)}


def hosts_by_name(port: int) -> Callable[[Sequence[str]], dict[str, Site]]:
    """Give every server a host of its own, called as the server is in the task, as containers on one network are.

    Args:
        port: at which all of them listen, on every address of their host.

    Raises:
        ConfigError: there is no such port.
    """
    if not 1 <= port <= 65535:
        raise ConfigError(f"port {port}: give one from 1 to 65535")
    return lambda servers: {name: Site(f"{name}:{port}", f"0.0.0.0:{port}") for name in servers}


def create_network(
    directory: Path,
    task_path: Path,
    *,
    tables: Mapping[str, Path] | None = None,
    sites: Callable[[Sequence[str]], Mapping[str, Site]] = on_loopback,
    owner_states: Mapping[str, Path] | None = None,
    ledger_limit: PrivacyBudget | None = None,
) -> None:
    """Make everything a task needs to be tried out: an authority, certificates, and a config per process.

    Args:
        directory: new or empty folder; it gets ``task.toml``, ``authority/`` and one folder per process.
        task_path: the task.
        tables: each owner's table; by default ``table.csv`` (``updates`` for updates) in the owner's folder.
        sites: says where each of the servers is.
        owner_states: each owner's state folder, which outlives this network; by default ``state`` in its folder.
        ledger_limit: what all sessions together may cost an owner's records; no limit when absent.

    Raises:
        TaskError: the task is malformed.
        ConfigError: the folder is not empty or cannot be written.
    """
    task = load_task(task_path)
    try:
        if directory.exists() and any(directory.iterdir()):
            raise ConfigError(f"{directory} is not empty: name a new folder, so that no key or ledger is overwritten")
        directory.mkdir(parents=True, exist_ok=True)
        # Keys and certificates belong to this machine alone.
        (directory / ".gitignore").write_text("*\n", encoding="utf-8")
        shutil.copyfile(task_path, directory / "task.toml")
        authority = Authority(f"mpcdp local network: {task.name}")
        (directory / "authority").mkdir(mode=0o700)
        (directory / "authority" / "authority.crt").write_bytes(authority.certificate)
        write_private(directory / "authority" / "authority.key", authority.key)
        members = task.members()
        servers = [member.name for member in members if member.role != "owner"]
        placed = sites(servers)
        for member in members:
            config = _create_process(directory / member.name, member, authority, placed)
            if member.role == "owner":
                usual = "updates" if task.method_.kind == "update-aggregation" else "table.csv"
                table = (tables or {}).get(member.name, Path(usual))
                config["table"] = str(table.absolute()) if table.exists() else str(table)
                if (state := (owner_states or {}).get(member.name)) is not None:
                    config["state"] = str(state.absolute())
                if ledger_limit is not None:
                    config["ledger"] = {"epsilon_limit": ledger_limit.epsilon, "delta_limit": ledger_limit.delta}
            (directory / member.name / f"{member.role}.toml").write_bytes(tomli_w.dumps(config).encode())
    except OSError as error:
        raise ConfigError(f"{directory}: {error.strerror}; name a folder that can be written") from error


def _create_process(folder: Path, member: Member, authority: Authority, sites: Mapping[str, Site]) -> dict[str, Any]:
    """Make a process's folder and credentials, and return its config."""
    folder.mkdir(mode=0o700)
    (folder / "state").mkdir(mode=0o700)
    certificate, key = authority.issue(member.certificate)
    (folder / "authority.crt").write_bytes(authority.certificate)
    (folder / f"{member.name}.crt").write_bytes(certificate)
    write_private(folder / f"{member.name}.key", key)
    config: dict[str, Any] = {
        "role": member.role,
        "name": member.name,
        "task": "../task.toml",
        "state": "state",
        "tls": {
            "authority": "authority.crt",
            "certificate": f"{member.name}.crt",
            "key": f"{member.name}.key",
        },
        "peers": {name: site.address for name, site in sites.items() if name != member.name},
    }
    if member.role != "owner":
        config["listen"] = sites[member.name].listen
    return config


def free_ports(count: int) -> list[int]:
    """Ask the system for ports that nobody uses now; held open together, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(opened.getsockname()[1]) for opened in sockets]


def _party_command(role: Role, config: Path) -> list[str]:
    return [sys.executable, "-m", f"parties.{role}", "--config", str(config)]


def _log_entries(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that a library wrote, or one that is not finished yet
        if isinstance(entry, dict):
            yield entry
