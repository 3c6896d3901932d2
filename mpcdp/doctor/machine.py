"""What a process needs of its machine: versions, a state folder that keeps what it has acknowledged, room, a port."""

import contextlib
import fcntl
import os
import platform
import resource
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from mpcdp import __version__
from mpcdp.doctor.findings import Finding, error, fine, warning
from mpcdp.mpc.noise_bank import whole_blocks
from mpcdp.plan import Plan
from mpcdp.private_files import make_private_folder, sync_folder
from mpcdp.transport.codec import PROTOCOL

__all__ = ["disk", "file_system", "memory", "open_files", "port", "state_bytes", "state_folder", "versions"]

_LIBRARIES = ("torch", "crypten", "grpcio", "protobuf", "cryptography", "numpy")
_MIB = 1 << 20
_BASE_MIB = {"owner": 200, "compute": 320, "dealer": 120, "coordinator": 120}
"""Measured peaks with small models; see deploy/README.md, section 2."""

_SLOW_SYNC_SECONDS = 1.0
_NETWORKED = ("nfs", "cifs", "smb", "9p", "ceph", "gluster", "afs", "lustre", "fuse.sshfs", "ncp", "gfs", "ocfs")
_FORGETFUL = ("tmpfs", "ramfs", "overlay")


def versions() -> Finding:
    """Report what is installed; what has to be the same everywhere comes first."""
    found = {"mpcdp": __version__, "protocol": str(PROTOCOL), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    missing = [name for name, version in found.items() if version == "missing"]
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if missing:
        return error("versions", text, f"install mpcdp with its dependencies: {', '.join(missing)} cannot be found")
    return fine("versions", text)


def state_folder(folder: Path) -> Iterator[Finding]:
    """Check that a state folder can be written and locked, is private, and keeps what it has acknowledged."""
    try:
        make_private_folder(folder)
        seconds = _write_and_lock(folder)
    except (OSError, sqlite3.Error) as problem:
        yield error(
            "state",
            f"state folder {folder}: {getattr(problem, 'strerror', None) or problem}",
            "give this process a folder of its own that it can write, on a disk with room and with locks",
        )
        return
    if folder.stat().st_mode & 0o007:
        yield warning("state", f"{folder} can be used by other users", f"chmod 700 {folder}")
    kind = file_system(folder)
    if kind.startswith(_NETWORKED):
        yield error("state", f"{folder} is on a network file system ({kind})", "use a local disk: locks must hold")
    elif kind in _FORGETFUL:
        yield warning(
            "state",
            f"{folder} is on {kind}, which forgets with the machine or the container",
            "use a disk, or mount a volume: a process that forgets its sessions would run one twice",
        )
    if seconds > _SLOW_SYNC_SECONDS:
        yield warning("state", f"writing {folder} through to disk takes {seconds:.1f} s", "use a faster disk")
    yield fine("state", f"{folder}: writable, lockable, synced in {1000 * seconds:.0f} ms, on {kind}")


def _write_and_lock(folder: Path) -> float:
    """Write a file and a database through to disk, under locks; return the seconds for the file."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir=folder) as name:
        start = time.monotonic()
        with (Path(name) / "file").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(Path(name))
        seconds = time.monotonic() - start
        with contextlib.closing(sqlite3.connect(Path(name) / "database", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            database.execute("CREATE TABLE t (x)")
            database.execute("COMMIT")
    return seconds


def file_system(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Name the kind of file system that a folder is on."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "an unknown file system"
    found, kind = -1, "an unknown file system"
    for line in lines:
        left, _, right = line.partition(" - ")
        if len(fields := left.split()) < 5 or not right:
            continue
        point = Path(fields[4].encode().decode("unicode_escape"))
        # Later mounts cover earlier ones at the same place.
        if folder.resolve().is_relative_to(point) and len(point.parts) >= found:
            found, kind = len(point.parts), right.split()[0]
    return kind


def state_bytes(plan: Plan, role: str) -> int:
    """Bound what a session may write into a state folder.

    A compute party keeps a share of every round's noise and of every release; everybody else keeps a model, and an
    owner a row of its ledger for every release.
    """
    noise = whole_blocks(plan.dimension * plan.rounds) * 8
    if role == "compute":
        return 2 * noise + 16 * _MIB
    return 40 * plan.dimension + 1000 * plan.rounds + 16 * _MIB


def disk(folder: Path, plan: Plan, role: str) -> Iterator[Finding]:
    """Compare the free room of a state folder with what a session may write."""
    if not folder.is_dir():
        return
    needed, free = state_bytes(plan, role), shutil.disk_usage(folder).free
    text = f"{folder}: {free // _MIB:,} MiB free, the session needs up to {-(-needed // _MIB):,} MiB"
    if free < needed:
        yield error("disk", text, "free some room, or put `state` on another disk")
    elif free < 2 * needed:
        yield warning("disk", text, "leave some more room")
    else:
        yield fine("disk", text)


def memory(plan: Plan, role: str) -> Iterator[Finding]:
    """Compare available memory with an estimate of what the process needs."""
    needed = _BASE_MIB[role] + 100 * plan.dimension // _MIB
    available = _available_mib()
    if available is None:
        return
    aside = ", its table aside" if role == "owner" else ""
    text = f"{available:,} MiB available, about {needed:,} MiB needed{aside}"
    if available < needed:
        yield warning("memory", text, "give the process more memory, or end others")
    else:
        yield fine("memory", text)


def _available_mib() -> int | None:
    """Read how much memory can still be had, on the machine and in this control group."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) // 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most, used = ((group / name).read_text(encoding="utf-8") for name in ("memory.max", "memory.current"))
        limits.append((int(most) - int(used)) // _MIB)
    return min(limits, default=None)


def open_files(members: int) -> Iterator[Finding]:
    """Compare the limit on open files with what connections to everybody need."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 256 + 2 * members
    text = f"up to {most:,} open files allowed, {needed:,} needed for {members} members"
    if most != resource.RLIM_INFINITY and most < needed:
        yield error("files", text, "raise the limit: `ulimit -n`, or LimitNOFILE= of the systemd unit")
    else:
        yield fine("files", text if most != resource.RLIM_INFINITY else "no limit on open files")


def port(listen: str) -> Iterator[Finding]:
    """Check that the process can listen at its address."""
    host, _, number = listen.rpartition(":")
    try:
        places = socket.getaddrinfo(host.strip("[]"), int(number), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = places[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as problem:
        yield error(
            "port",
            f"cannot listen at {listen} ({problem.strerror})",
            "end the other process that uses the port (this process itself, if it runs already), or correct `listen`",
        )
        return
    yield fine("port", f"{listen} is free")
