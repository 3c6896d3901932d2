"""What the coordinator must not forget: its session, what it asked for, and what was released.

All of it is public to the processes of the task. It is kept so that a coordinator that is started again goes on with
the same session instead of losing what owners have paid for.
"""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from mpcdp.roles.database import StateDatabase
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport.messages import Release, SessionRef

__all__ = ["DATABASE_FILE", "CoordinatorJournal", "CoordinatorRecord"]

DATABASE_FILE = "session.db"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    task_digest BLOB PRIMARY KEY, session BLOB NOT NULL UNIQUE, started INTEGER NOT NULL, over INTEGER NOT NULL,
    reason TEXT, asked_round INTEGER, asked BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS releases (
    session BLOB NOT NULL, round_index INTEGER NOT NULL, owners BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (session, round_index)
) STRICT;
CREATE TABLE IF NOT EXISTS served (session BLOB NOT NULL, owner TEXT NOT NULL, PRIMARY KEY (session, owner)) STRICT;
"""


@dataclass(frozen=True)
class CoordinatorRecord:
    """What an earlier process knew of a session.

    Args:
        ref: the session.
        started: whether owners were told of it: from then on it may have cost them something.
        over: whether it has ended.
        reason: why it failed, if it is over and did.
        releases: how many rounds were released.
        asked: the owners expected in the round after these, if that was asked for.
        served: owners that have their model.
    """

    ref: SessionRef
    started: bool
    over: bool
    reason: str | None
    releases: int
    asked: OwnerSet | None
    served: frozenset[str]


class CoordinatorJournal:
    """The durable record of the coordinator's sessions.

    Args:
        folder: the coordinator's state folder; created if missing, readable by its user only.

    Raises:
        ConfigError: the folder or the file cannot be used; by every method, when the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self._database = StateDatabase(folder / DATABASE_FILE, _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def stored(self, task_digest: bytes) -> CoordinatorRecord | None:
        """Return the session of a task, if there is one."""
        rows = self._database.execute("SELECT * FROM sessions WHERE task_digest = ?", task_digest)
        if not rows:
            return None
        digest, session, started, over, reason, asked_round, asked = rows[0]
        [(releases,)] = self._database.execute("SELECT count(*) FROM releases WHERE session = ?", session)
        served = self._database.execute("SELECT owner FROM served WHERE session = ?", session)
        return CoordinatorRecord(
            ref=SessionRef(task_digest=digest, session=session),
            started=bool(started),
            over=bool(over),
            reason=reason,
            releases=releases,
            asked=OwnerSet.from_bytes(asked) if asked is not None and asked_round == releases else None,
            served=frozenset(owner for (owner,) in served),
        )

    def open_session(self, ref: SessionRef) -> None:
        """Take note of a new session before any process is told of it."""
        self._database.execute(
            "INSERT INTO sessions VALUES (?, ?, 0, 0, NULL, NULL, NULL)", ref.task_digest, ref.session
        )

    def start(self, ref: SessionRef) -> None:
        """Note that owners are about to be told of the session, and to pay for it."""
        self._database.execute("UPDATE sessions SET started = 1 WHERE session = ?", ref.session)

    def ask(self, ref: SessionRef, round_index: int, owners: OwnerSet) -> None:
        """Note which owners a round is about to be asked for; durable, and so is every release before it."""
        statement = "UPDATE sessions SET asked_round = ?, asked = ? WHERE session = ?"
        self._database.execute(statement, round_index, owners.to_bytes(), ref.session)

    def record_release(self, ref: SessionRef, round_index: int, release: Release) -> None:
        """Keep what a round released; a power cut may undo it, and then the compute parties still have it."""
        row = (ref.session, round_index, release.owners.to_bytes(), release.values.tobytes())
        with self._database.unsynced_transaction():
            self._database.execute("INSERT OR IGNORE INTO releases VALUES (?, ?, ?, ?)", *row)

    def release(self, ref: SessionRef, round_index: int) -> Release:
        """Return what a round released."""
        statement = "SELECT owners, value FROM releases WHERE session = ? AND round_index = ?"
        [(owners, values)] = self._database.execute(statement, ref.session, round_index)
        return Release(values=np.frombuffer(values, dtype=np.int64).copy(), owners=OwnerSet.from_bytes(owners))

    def serve(self, ref: SessionRef, owner: str) -> None:
        """Note that an owner has its model."""
        with self._database.unsynced_transaction():
            self._database.execute("INSERT OR IGNORE INTO served VALUES (?, ?)", ref.session, owner)

    def end(self, ref: SessionRef, reason: str | None) -> None:
        """Note that a session is over, for a reason if it failed; one that no owner was told of is forgotten."""
        with self._database.transaction():
            self._database.execute("DELETE FROM sessions WHERE session = ? AND started = 0", ref.session)
            statement = "UPDATE sessions SET over = 1, reason = ? WHERE session = ? AND over = 0"
            self._database.execute(statement, reason, ref.session)
            for table in ("releases", "served"):
                self._database.execute(f"DELETE FROM {table} WHERE session = ?", ref.session)  # noqa: S608 (our names)
        self._database.destroy_deleted()
