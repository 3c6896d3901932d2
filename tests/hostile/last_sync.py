"""What a power cut leaves on a disk that writes nothing before it is told to."""

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

__all__ = ["LastSync"]

_FULL = 2


class LastSync:
    """Remembers the content of files and folders as of their last fsync, and copies a state folder as that.

    A name is there if its folder was synced since; a file has the bytes it had at its own last sync. A database is as
    of its last commit by a connection that waits for the disk (``synchronous`` FULL or EXTRA).

    Args:
        monkeypatch: puts back what is patched.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._lock = threading.Lock()
        self._content: dict[int, bytes] = {}
        self._names: dict[Path, dict[str, int]] = {}
        self._databases: dict[Path, bytes] = {}
        self.unsynced: set[str] = set()
        """Statements that changed a database without waiting for the disk."""
        connect = sqlite3.connect
        kind = _watched(self._note_commit)
        monkeypatch.setattr(sqlite3, "connect", lambda *rest, **options: connect(*rest, factory=kind, **options))
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

    def _note_commit(self, connection: sqlite3.Connection, statements: set[str]) -> None:
        execute = sqlite3.Connection.execute
        if execute(connection, "PRAGMA synchronous").fetchone()[0] < _FULL:
            self.unsynced |= statements
            return
        path = Path(execute(connection, "PRAGMA database_list").fetchone()[2])
        with self._lock:
            self._databases[path] = connection.serialize()

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
                    copy.write_bytes(self._databases.get(path.resolve(), b""))
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


def _watched(commit: Callable[[sqlite3.Connection, set[str]], None]) -> type[sqlite3.Connection]:
    """Return a kind of connection that tells of every commit, with the beginnings of the statements in it."""

    class Watched(sqlite3.Connection):
        def _run(self, run: Callable[..., sqlite3.Cursor], statement: str, *arguments: Any) -> sqlite3.Cursor:
            before = self.total_changes
            cursor = run(statement, *arguments)
            vars(self).setdefault("statements", set())
            if self.total_changes != before or statement.startswith("BEGIN IMMEDIATE;"):
                vars(self)["statements"].add(" ".join(statement.split()[:3]))
            if not self.in_transaction and vars(self)["statements"]:
                commit(self, vars(self)["statements"])
                vars(self)["statements"] = set()
            return cursor

        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            return self._run(super().execute, statement, *arguments)

        def executemany(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            return self._run(super().executemany, statement, *arguments)

        def executescript(self, statement: str) -> sqlite3.Cursor:
            cursor = self._run(super().executescript, statement)
            commit(self, {"schema"})
            return cursor

    return Watched
