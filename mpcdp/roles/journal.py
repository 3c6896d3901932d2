"""What a compute party must not forget, on disk before it matters.

SQLite with ``synchronous=FULL``: when a method returns, the record survives a crash and a power cut.
"""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mpcdp.errors import BudgetError, ConfigError
from mpcdp.private_files import make_private_file
from mpcdp.secret_sharing.shares import NoisedVector
from mpcdp.transport.messages import SessionRef

__all__ = ["PartyJournal"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (task_digest BLOB PRIMARY KEY, session BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS round (
    session BLOB NOT NULL, round_index INTEGER NOT NULL, agreement BLOB NOT NULL, share BLOB,
    PRIMARY KEY (session, round_index)
) STRICT;
"""


class PartyJournal:
    """The durable record of the sessions and rounds a compute party is bound to.

    Args:
        folder: the party's state folder; created if missing, readable by its user only.

    Raises:
        ConfigError: the folder or the file cannot be used.

    Guarantees:
        A task digest is bound to one session for ever, and a round of a session to one agreement for ever.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "party.db"
        self.folder = folder
        self._lock = threading.Lock()
        try:
            make_private_file(path)
            # Request handlers and the role's own thread share the connection, one statement at a time.
            self._database = sqlite3.connect(path, isolation_level=None, timeout=10.0, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute("PRAGMA secure_delete=ON")
            self._database.executescript(_SCHEMA)
            # Of a process that was killed: its session cannot go on without it, and nobody needs them any more.
            self._database.execute("UPDATE round SET share = NULL WHERE share IS NOT NULL")
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"state folder {folder}: {error}; give this process a folder it can write") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def check_unused(self, ref: SessionRef) -> None:
        """Refuse a task that this party has already run.

        Raises:
            BudgetError: the task digest is bound to another session.
        """
        rows = self._execute("SELECT session FROM session WHERE task_digest = ?", ref.task_digest)
        if rows and rows != [(ref.session,)]:
            raise BudgetError(
                "this party has already taken part in a session of this task, and a task is run once: "
                "agree on a new task (a new name is enough) and on its privacy cost"
            )

    def bind_session(self, ref: SessionRef) -> None:
        """Bind the task digest to this session, durably; calling it again with the same session changes nothing.

        Raises:
            BudgetError: the task digest is bound to another session.
        """
        self._execute("INSERT OR IGNORE INTO session VALUES (?, ?)", ref.task_digest, ref.session)
        self.check_unused(ref)

    def bind_round(self, ref: SessionRef, round_index: int, agreement: bytes, share: NoisedVector) -> None:
        """Bind a round to what was agreed and to this party's noised share, durably, before anything is opened.

        Args:
            ref: the session.
            round_index: the round, and the index of its noise.
            agreement: canonical bytes of the owner set, nonces, noise index, scale and model digest.
            share: what this party will open.

        Raises:
            BudgetError: the round is already bound, so its noise may have been used.
        """
        try:
            self._execute(
                "INSERT INTO round VALUES (?, ?, ?, ?)", ref.session, round_index, agreement, share.values.tobytes()
            )
        except sqlite3.IntegrityError as error:
            raise BudgetError(
                f"round {round_index} was already agreed on and its noise may have been used: it cannot run again"
            ) from error

    def forget_shares(self, ref: SessionRef) -> None:
        """Destroy the shares of a session that is over; the bindings stay."""
        self._execute("UPDATE round SET share = NULL WHERE session = ?", ref.session)
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _execute(self, statement: str, *values: bytes | int) -> Sequence[tuple[bytes | int, ...]]:
        """Run one statement; without a surrounding transaction it is durable when it returns."""
        with self._lock:
            return self._database.execute(statement, values).fetchall()
