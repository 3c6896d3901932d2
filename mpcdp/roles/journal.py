"""What a compute party must not forget, on disk before it matters.

SQLite in WAL mode with ``synchronous=FULL``: when a method returns, the record survives a crash and a power cut. The
exceptions, which a power cut may undo, are `PartyJournal.record_release`: the bound share is opened again then, and
gives the same bytes; `PartyJournal.note_bound_by_all`; and the keys of `PartyJournal.enrol` before
`PartyJournal.sync_enrolments`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from mpcdp.errors import BudgetError
from mpcdp.roles.database import StateDatabase
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import NoisedVector
from mpcdp.transport.messages import Enrolment, NoiseUse, Outcome, Release, SessionRef

__all__ = ["Bound", "PartyJournal", "StoredRelease", "StoredSession"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sessions (
    task_digest BLOB PRIMARY KEY, session BLOB NOT NULL UNIQUE, begun INTEGER NOT NULL, over INTEGER NOT NULL,
    reason TEXT, rounds INTEGER NOT NULL, history BLOB NOT NULL, bank BLOB, noise_start INTEGER, noise_end INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS enrolments (
    session BLOB NOT NULL, position INTEGER NOT NULL, owner TEXT NOT NULL, key BLOB NOT NULL,
    PRIMARY KEY (session, position)
) STRICT;
CREATE TABLE IF NOT EXISTS bound (
    session BLOB PRIMARY KEY, round_index INTEGER NOT NULL, asked BLOB, agreement BLOB NOT NULL, share BLOB
) STRICT;
CREATE TABLE IF NOT EXISTS released (
    session BLOB PRIMARY KEY, round_index INTEGER NOT NULL, asked BLOB, owners BLOB NOT NULL, value BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS bound_by_all (session BLOB PRIMARY KEY, round_index INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS synced (row INTEGER PRIMARY KEY CHECK (row = 0), value INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class StoredSession:
    """What a party's earlier process knew of a session.

    Args:
        ref: the session.
        begun: whether an owner has enrolled: then the task is bound to the session for ever.
        over: whether it has ended.
        reason: why it failed, if it is over and did.
        outcome: what it has released.
        noise: which joint noise it has, once that is prepared.
    """

    ref: SessionRef
    begun: bool
    over: bool
    reason: str | None
    outcome: Outcome
    noise: NoiseUse | None


@dataclass(frozen=True)
class Bound:
    """A round that this party is bound to.

    Args:
        round_index: the round, and the index of its noise.
        asked: the owners that the coordinator expected; None if another party told of the agreement.
        agreement: canonical bytes of a `mpcdp.mpc.aggregation.RoundAgreement`.
        share: what this party opens, and nothing else.
    """

    round_index: int
    asked: OwnerSet | None
    agreement: bytes
    share: NoisedVector = field(repr=False)


@dataclass(frozen=True)
class StoredRelease:
    """The last release of a session.

    Args:
        round_index: its round.
        asked: the owners that the coordinator expected; None if another party told of the release.
        release: what was opened.
    """

    round_index: int
    asked: OwnerSet | None
    release: Release


class PartyJournal:
    """The durable record of the sessions and rounds a compute party is bound to.

    Args:
        folder: the party's state folder; created if missing, readable by its user only.

    Raises:
        ConfigError: the folder or the file cannot be used; by every method, when the disk fails.

    Guarantees:
        A task digest is bound to one session for ever, and a round of a session to one agreement for ever.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = StateDatabase(folder / "party.db", _SCHEMA)
        self._synced = False  # an earlier process may have left it so

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    # -- sessions --------------------------------------------------------------------------------------------------

    def stored(self, task_digest: bytes) -> StoredSession | None:
        """Return the session of a task, if this party knows of one."""
        rows = self._database.execute("SELECT * FROM sessions WHERE task_digest = ?", task_digest)
        if not rows:
            return None
        digest, session, begun, over, reason, rounds, history, bank, start, end = rows[0]
        return StoredSession(
            ref=SessionRef(task_digest=digest, session=session),
            begun=bool(begun),
            over=bool(over),
            reason=reason,
            outcome=Outcome(rounds=rounds, history=history),
            noise=None if bank is None else NoiseUse(bank=bank, start=start, end=end),
        )

    def open_session(self, ref: SessionRef, history: bytes) -> None:
        """Take note of a session, durably, before anything is promised; again with the same session, nothing changes.

        Args:
            ref: the session; it replaces one of the same task in which no owner has enrolled.
            history: digest of no releases.

        Raises:
            BudgetError: the task digest is bound to another session, or the session is over.
        """
        with self._database.transaction():
            earlier = self.stored(ref.task_digest)
            if earlier is not None and (earlier.over or (earlier.begun and earlier.ref != ref)):
                raise BudgetError(
                    "this party has already taken part in a session of this task, and a task is run once: "
                    "agree on a new task (a new name is enough) and on its privacy cost"
                )
            if earlier is None or earlier.ref != ref:
                self._database.execute("DELETE FROM sessions WHERE task_digest = ?", ref.task_digest)
                row = (ref.task_digest, ref.session, history)
                self._database.execute("INSERT INTO sessions VALUES (?, ?, 0, 0, NULL, 0, ?, NULL, NULL, NULL)", *row)

    def note_noise(self, ref: SessionRef, use: NoiseUse) -> None:
        """Take note of which joint noise the session has; before any owner enrols, it may have another one later.

        Raises:
            BudgetError: an owner has enrolled, and was told of other noise.
        """
        with self._database.transaction():
            earlier = self.stored(ref.task_digest)
            if earlier is not None and earlier.begun and earlier.noise not in (None, use):
                raise BudgetError("this session has begun with other noise than its pool now has: agree on a new task")
            values = (use.bank, use.start, use.end, ref.session)
            self._database.execute(
                "UPDATE sessions SET bank = ?, noise_start = ?, noise_end = ? WHERE session = ?", *values
            )

    def enrol(self, position: int, enrolment: Enrolment) -> None:
        """Keep an owner's key, and bind the task digest to the session for ever; the same again changes nothing.

        The binding is durable. The key survives a crash, but a power cut only after `sync_enrolments`: a thousand
        owners would otherwise wait for a thousand fsyncs.

        Raises:
            BudgetError: the task digest is bound to another session.
        """
        session = enrolment.ref.session
        stored = self.stored(enrolment.ref.task_digest)
        if stored is None or stored.ref != enrolment.ref or stored.over:
            raise BudgetError("this party takes part in another session of this task, and a task is run once")
        if not stored.begun:
            self._database.execute("UPDATE sessions SET begun = 1 WHERE session = ? AND over = 0", session)
        with self._database.unsynced_transaction():
            row = (session, position, enrolment.owner, enrolment.key)
            self._database.execute("INSERT OR IGNORE INTO enrolments VALUES (?, ?, ?, ?)", *row)
            self._synced = False

    def sync_enrolments(self) -> None:
        """See all keys on disk: owners whose keys a party holds may be agreed on."""
        if not self._synced:
            self._synced = True
            # Whatever is written durably syncs all that was written before.
            self._database.execute("INSERT OR REPLACE INTO synced VALUES (0, random())")

    def enrolments(self, ref: SessionRef) -> dict[int, Enrolment]:
        """Return the enrolments of a session by position."""
        rows = self._database.execute("SELECT position, owner, key FROM enrolments WHERE session = ?", ref.session)
        return {position: Enrolment(ref=ref, owner=owner, key=key) for position, owner, key in rows}

    # -- rounds ----------------------------------------------------------------------------------------------------

    def bind_round(self, ref: SessionRef, bound: Bound) -> None:
        """Bind a round to what was agreed and to this party's noised share, durably, before anything is opened.

        Raises:
            BudgetError: the round is already bound, or was released; its noise may have been used.
        """
        asked = None if bound.asked is None else bound.asked.to_bytes()
        row = (ref.session, bound.round_index, asked, bound.agreement, bound.share.values.tobytes())
        with self._database.transaction():
            later = "SELECT 1 FROM bound WHERE session = ? AND round_index >= ?"
            released = "SELECT 1 FROM sessions WHERE session = ? AND (rounds > ? OR over = 1)"
            if any(self._database.execute(query, ref.session, bound.round_index) for query in (later, released)):
                raise BudgetError(
                    f"round {bound.round_index} was already agreed on and its noise may have been used: it cannot run "
                    "again"
                )
            self._database.execute("INSERT OR REPLACE INTO bound VALUES (?, ?, ?, ?, ?)", *row)

    def bound(self, ref: SessionRef) -> Bound | None:
        """Return the round that this party is bound to: the last one, whether it was released or not."""
        rows = self._database.execute(
            "SELECT round_index, asked, agreement, share FROM bound WHERE session = ?", ref.session
        )
        if not rows or rows[0][3] is None:
            return None
        index, asked, agreement, share = rows[0]
        return Bound(index, _owner_set(asked), agreement, NoisedVector(np.frombuffer(share, dtype=np.int64).copy()))

    def note_bound_by_all(self, ref: SessionRef, round_index: int) -> None:
        """Take note that all parties are bound to this one's round; survives a crash, perhaps not a power cut."""
        with self._database.unsynced_transaction():
            self._database.execute("INSERT OR REPLACE INTO bound_by_all VALUES (?, ?)", ref.session, round_index)

    def bound_by_all(self, ref: SessionRef) -> int | None:
        """Return the last round of which it was noted that all parties are bound to it."""
        rows = self._database.execute("SELECT round_index FROM bound_by_all WHERE session = ?", ref.session)
        return int(rows[0][0]) if rows else None

    def record_release(self, ref: SessionRef, stored: StoredRelease, outcome: Outcome) -> None:
        """Keep the last release and the digest of all; survives a crash, perhaps not a power cut.

        Raises:
            BudgetError: later releases are known.
        """
        asked = None if stored.asked is None else stored.asked.to_bytes()
        release = stored.release
        row = (ref.session, stored.round_index, asked, release.owners.to_bytes(), release.values.tobytes())
        with self._database.unsynced_transaction():
            newer = "SELECT 1 FROM sessions WHERE session = ? AND rounds > ?"
            if self._database.execute(newer, ref.session, outcome.rounds):
                raise BudgetError("this party knows of later releases: rounds are never undone")
            self._database.execute("INSERT OR REPLACE INTO released VALUES (?, ?, ?, ?, ?)", *row)
            values = (outcome.rounds, outcome.history, ref.session)
            self._database.execute("UPDATE sessions SET rounds = ?, history = ? WHERE session = ?", *values)

    def released(self, ref: SessionRef) -> StoredRelease | None:
        """Return the last release."""
        rows = self._database.execute(
            "SELECT round_index, asked, owners, value FROM released WHERE session = ?", ref.session
        )
        if not rows:
            return None
        index, asked, owners, values = rows[0]
        release = Release(values=np.frombuffer(values, dtype=np.int64).copy(), owners=OwnerSet.from_bytes(owners))
        return StoredRelease(index, _owner_set(asked), release)

    def end(self, ref: SessionRef, reason: str | None) -> None:
        """Note that a session is over, and destroy its shares, keys and releases; that the task was run stays.

        A session in which no owner has enrolled is forgotten: nobody has paid, and the task may be run.

        Args:
            ref: the session.
            reason: why it failed, if it did.
        """
        with self._database.transaction():
            self._database.execute("DELETE FROM sessions WHERE session = ? AND begun = 0", ref.session)
            self._database.execute(
                "UPDATE sessions SET over = 1, reason = ? WHERE session = ? AND over = 0", reason, ref.session
            )
            for table in ("enrolments", "bound", "bound_by_all", "released"):
                self._database.execute(f"DELETE FROM {table} WHERE session = ?", ref.session)  # noqa: S608 (our own names)
        self._database.destroy_deleted()


def _owner_set(bitmap: bytes | None) -> OwnerSet | None:
    return None if bitmap is None else OwnerSet.from_bytes(bitmap)
