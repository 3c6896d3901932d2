"""The SQLite file in which a role keeps what it must not forget."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpcdp.errors import ConfigError
from mpcdp.private_files import make_private_file

__all__ = ["StateDatabase"]


class StateDatabase:
    """A file of one process, for its user alone, used by all of its threads.

    Args:
        path: of the file; made, with its folder, if it is missing.
        schema: statements that make its tables if they are missing.

    Raises:
        ConfigError: the file cannot be used; by every method, when the disk fails.

    Guarantees:
        What was written is on disk when a statement or a `transaction` ends (WAL, ``synchronous=FULL``), and what was
        deleted is gone from the file after `destroy_deleted`.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._folder = path.parent
        self._lock = threading.RLock()
        try:
            make_private_file(path)
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
            for setting in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
                self._database.execute(f"PRAGMA {setting}")
            self._database.executescript(schema)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"state folder {self._folder}: {error}; give this process a folder it can write"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def execute(self, statement: str, *values: bytes | int | str | None) -> Sequence[tuple[Any, ...]]:
        """Run one statement and return its rows; without a surrounding transaction it is durable then."""
        with self._lock:
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise ConfigError(
                    f"state folder {self._folder}: {error}; look after its disk, then start this process again"
                ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep other threads out, and write all or nothing; durable when it ends."""
        with self._lock:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite ends it itself when the disk is full, for example
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def unsynced_transaction(self) -> Iterator[None]:
        """Write all or nothing without an fsync: it survives a crash, and a power cut after the next durable write."""
        with self._lock:
            self.execute("PRAGMA synchronous=NORMAL")
            try:
                with self.transaction():
                    yield
            finally:
                self.execute("PRAGMA synchronous=FULL")

    def destroy_deleted(self) -> None:
        """Empty the write-ahead log, where deleted rows may still stand."""
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
