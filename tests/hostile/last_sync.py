"""What a power cut leaves on a disk that writes nothing before it is told to."""

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

__all__ = ["LastSync"]


class LastSync:
    """Remembers the content of files and folders as of their last fsync, and copies a state folder as that.

    A name is there if its folder was synced since; a file has the bytes it had at its own last sync. Databases are
    SQLite's to sync: they are as of their last commit, if their connection asks for it (``synchronous`` FULL or more,
    which `tests/hostile/test_lost_writes.py` checks).

    Args:
        monkeypatch: puts `os.fsync` and `os.fdatasync` back.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self._content: dict[int, bytes] = {}
        self._names: dict[Path, dict[str, int]] = {}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._noting(getattr(os, name)))

    def _noting(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def note(descriptor: int) -> None:
            sync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            with self._lock:
                if path.is_dir():
                    self._names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
                elif path.exists():
                    self._content[os.fstat(descriptor).st_ino] = path.read_bytes()

        return note

    def copy(self, source: Path, target: Path) -> None:
        """Copy a state folder as the power cut leaves it; fits `mortal_world.copy_state`."""
        target.mkdir(parents=True, mode=0o700)
        if not source.exists():
            return
        with self._lock:
            for path in sorted(source.rglob("*")):
                copy = target / path.relative_to(source)
                if path.is_dir():
                    copy.mkdir(mode=0o700, exist_ok=True)
                elif path.suffix == ".db":
                    copy.touch(mode=0o600)
                    with closing(sqlite3.connect(path, timeout=10)) as old, closing(sqlite3.connect(copy)) as new:
                        old.backup(new)
            for folder, names in self._names.items():
                if not folder.is_relative_to(source):
                    continue
                for name, inode in names.items():
                    copy = target / (folder / name).relative_to(source)
                    if copy.is_dir() or name.endswith((".db", "-wal", "-shm", "-journal")):
                        continue
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(self._content.get(inode, b""))
                    copy.chmod(0o600)
