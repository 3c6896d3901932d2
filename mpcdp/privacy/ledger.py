"""An owner's book of what its records have paid: an append-only, hash-chained SQLite file.

A session is charged for all its releases before the first share leaves the owner. An entry is on disk (fsync) before
the call that wrote it returns, so no crash makes the owner forget a charge. Each row's hash covers its number, its
content and the hash of the row before (`mpcdp.privacy.ledger_rows`), and a second table holds the number and hash of
the last row: edits, deletions and moved rows are detected. What no chain can detect is somebody who replaces the whole
file, by an older copy for example: never restore a ledger from a back-up.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mpcdp.errors import BudgetError
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import GaussianCost, TaskCost, allows
from mpcdp.privacy.ledger_rows import (
    GENESIS,
    Charge,
    Entry,
    NoiseRecord,
    ReleaseRecord,
    chain_hash,
    charge_text,
    find_charge,
    find_noise,
    find_releases,
    noise_text,
    parse_row,
    release_text,
)
from mpcdp.private_files import make_private_file

__all__ = ["LEDGER_FILE", "Charge", "Ledger", "NoiseRecord", "ReleaseRecord"]

LEDGER_FILE = "ledger.db"
"""Its name in an owner's state folder."""

_BUSY_SECONDS = 20.0
_FORMAT = 1
_TABLES = (
    "CREATE TABLE entries (number INTEGER PRIMARY KEY, content TEXT NOT NULL, hash BLOB NOT NULL)",
    "CREATE TABLE head (row INTEGER PRIMARY KEY CHECK (row = 0), number INTEGER NOT NULL, hash BLOB NOT NULL)",
    "CREATE TRIGGER no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
)


class Ledger:
    """One owner's ledger; several processes may have it open. Use it as a context manager.

    Args:
        path: the file; made, with its folder, for its user alone, when it does not exist.
        limit: what all charges together may cost, fixed before the first one; None for no limit.

    Raises:
        BudgetError: the file cannot be opened or is no ledger.

    Guarantees:
        An entry is on disk before the method that wrote it returns. A task is charged once, whatever happens. With a
        limit, the releases of all charged tasks are together within it (`mpcdp.privacy.composition.allows`).
    """

    def __init__(self, path: Path, *, limit: PrivacyBudget | None = None) -> None:
        self._path = path
        self._limit = limit
        self._entries: list[Entry] = []
        self._last_hash = GENESIS
        try:
            make_private_file(path)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise BudgetError(f"ledger {path}: cannot be opened ({error}); name a file in a writable folder") from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def check(
        self, task_digest: bytes, task_name: str, cost: PrivacyBudget, *, gaussian: GaussianCost | None = None
    ) -> None:
        """Refuse what `charge` would refuse a new session, without writing anything.

        Raises:
            BudgetError: the task was charged before, the limit would be exceeded, or the ledger is damaged.
        """
        with self._transaction("DEFERRED"):
            self._check(self._read_all(), task_digest, task_name, TaskCost(budget=cost, gaussian=gaussian))

    def charged(self, task_digest: bytes) -> bool:
        """Tell whether a session of the task was charged.

        Raises:
            BudgetError: the ledger is damaged.
        """
        return any(isinstance(entry, Charge) and entry.task_digest == task_digest for entry in self.entries())

    def charge(
        self,
        task_digest: bytes,
        session: bytes,
        task_name: str,
        cost: PrivacyBudget,
        *,
        releases: int,
        gaussian: GaussianCost | None = None,
    ) -> None:
        """Book the cost of a whole session; durable before it returns.

        Charging the same session of the same task again changes nothing and succeeds: a retry never costs twice.

        Args:
            task_digest: 32 bytes.
            session: session id, 32 bytes.
            task_name: for the reader of the ledger.
            cost: of all releases together.
            releases: number of releases, at least 1.
            gaussian: the same cost as one Gaussian, if it is one.

        Raises:
            BudgetError: the task was charged for another session, the session for another task or cost, the limit
                would be exceeded, or the ledger is damaged. Nothing was written.
            ValueError: there is no release to charge for.
        """
        if releases < 1:
            raise ValueError(f"a charge covers at least one release, not {releases}")
        with self._transaction("IMMEDIATE"):
            earlier = find_charge(self._read_all(), session)
            if earlier is None:
                asked = TaskCost(budget=cost, gaussian=gaussian)
                self._check(self._entries, task_digest, task_name, asked)
                self._append(charge_text(task_digest, session, task_name, asked, releases=releases))
            elif (earlier.task_digest, earlier.cost, earlier.releases) != (task_digest, cost, releases):
                raise BudgetError(
                    f"ledger {self._path}: row {earlier.number} charged this session for something else (task "
                    f"{earlier.task_name!r}, {earlier.cost}, {earlier.releases} releases); start a new session"
                )

    def record_releases(self, session: bytes, owners: Sequence[Sequence[str]]) -> None:
        """Note the releases of a charged session; durable before it returns. Noting them again is harmless.

        Args:
            session: session id, 32 bytes.
            owners: for each round from 0 on, the names of the owners whose contributions are in its release.

        Raises:
            BudgetError: the session was not charged, or not for so many rounds, or a round was released to other
                owners. Nothing was written.
        """
        with self._transaction("IMMEDIATE"):
            entries = self._read_new()
            charge = find_charge(entries, session)
            known = find_releases(entries, session)
            for round_index, names in enumerate(owners):
                if charge is None or round_index >= charge.releases:
                    raise self._unexpected(session, round_index, "but never charged")
                if (earlier := known.get(round_index)) is None:
                    self._append(release_text(session, round_index, tuple(names)))
                elif earlier.owners != tuple(names):
                    raise self._unexpected(session, round_index, "twice, from different owners")

    def check_noise(self, session: bytes, bank: bytes, start: int, end: int) -> None:
        """Refuse what `record_noise` would refuse, without writing anything; the session need not be charged yet.

        Raises:
            BudgetError: another session may have had this noise, or the ledger is damaged.
        """
        with self._transaction("DEFERRED"):
            self._check_noise(self._read_new(), session, bank, start, end)

    def record_noise(self, session: bytes, bank: bytes, start: int, end: int) -> None:
        """Note which noise a charged session gets; durable before it returns. Noting it again is harmless.

        Compute parties that were all restored from old copies know nothing of what they used since; this ledger does.

        Args:
            session: session id, 32 bytes.
            bank: id of the compute parties' noise pools, 16 bytes.
            start: first position of the session's noise.
            end: first position after it.

        Raises:
            BudgetError: the session was not charged, another one may have had this noise, or the ledger is damaged.
            ValueError: the range is empty.
        """
        if not 0 <= start < end:
            raise ValueError(f"noise lies between two positions, not between {start} and {end}")
        with self._transaction("IMMEDIATE"):
            entries = self._read_new()
            if find_charge(entries, session) is None:
                raise BudgetError(
                    f"ledger {self._path}: session {session.hex()[:16]} gets noise but was never charged; take no part "
                    "in it"
                )
            if not self._check_noise(entries, session, bank, start, end):
                self._append(noise_text(session, bank, start, end))

    def entries(self) -> tuple[Entry, ...]:
        """Verify all entries and return them, oldest first.

        Raises:
            BudgetError: the ledger is damaged.
        """
        with self._transaction("DEFERRED"):
            return tuple(self._read_all())

    def total(self) -> PrivacyBudget:
        """Add up all charges by basic composition.

        Raises:
            BudgetError: the ledger is damaged.
        """
        return PrivacyBudget.sum(entry.cost for entry in self.entries() if isinstance(entry, Charge))

    def verify(self) -> bytes:
        """Check every row against the chain.

        Returns:
            The last row's hash: whoever keeps it elsewhere also notices when the whole file is exchanged.

        Raises:
            BudgetError: a row was edited, deleted or moved; the message names the first one.
        """
        self.entries()
        return self._last_hash

    # -- inside a transaction --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        """Run a block in one SQLite transaction; IMMEDIATE keeps all other writers out from its start."""
        try:
            self._connection.execute(f"BEGIN {kind}")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite ends it itself when the disk is full, for example
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise BudgetError(
                f"ledger {self._path}: {error}; end other processes that use it, and name the right file"
            ) from error

    def _prepare(self) -> None:
        try:
            # EXTRA is FULL and an fsync of the folder, without which a power cut could bring a rolled-back state back.
            self._connection.execute("PRAGMA synchronous = EXTRA")
        except sqlite3.Error as error:
            raise BudgetError(f"ledger {self._path}: {error}; name another file") from error
        with self._transaction("IMMEDIATE"):
            self._make_tables()

    def _make_tables(self) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in _TABLES:
                self._connection.execute(statement)
            self._connection.execute("INSERT INTO head VALUES (0, 0, ?)", (GENESIS,))
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")
        elif version != _FORMAT:
            raise BudgetError(f"ledger {self._path}: this is no ledger of format {_FORMAT}; name another file")

    def _append(self, text: str) -> None:
        number, previous = self._connection.execute("SELECT number, hash FROM head").fetchone()
        row_hash = chain_hash(previous, number + 1, text)
        self._connection.execute("INSERT INTO entries VALUES (?, ?, ?)", (number + 1, text, row_hash))
        self._connection.execute("UPDATE head SET number = ?, hash = ?", (number + 1, row_hash))

    def _check(self, entries: Sequence[Entry], task_digest: bytes, task_name: str, cost: TaskCost) -> None:
        """Raise BudgetError unless a new session of the task may be charged."""
        charges = [entry for entry in entries if isinstance(entry, Charge)]
        for charge in charges:
            if charge.task_digest == task_digest:
                raise BudgetError(
                    f"ledger {self._path}: task {task_name!r} was charged at {charge.time} (row {charge.number}) and "
                    "runs once only; for another run agree on a new task, with its own name and its own cost"
                )
        spent = [charge.task_cost for charge in charges]
        if self._limit is not None and not allows(self._limit, [*spent, cost]):
            raise BudgetError(
                f"ledger {self._path}: task {task_name!r} would exceed the limit: spent "
                f"{PrivacyBudget.sum(one.budget for one in spent)} by adding up, asked {cost.budget}, limit "
                f"{self._limit}, added up or composed; agree on a cheaper task, or raise the limit: [ledger] in this "
                "owner's config, epsilon_limit and delta_limit of a federation"
            )

    def _check_noise(self, entries: Sequence[Entry], session: bytes, bank: bytes, start: int, end: int) -> bool:
        """Raise BudgetError unless the noise is the session's own, or lies beyond all that any session had.

        Returns:
            Whether it was noted before.
        """
        known = find_noise(entries, bank)
        if any((record.session, record.start, record.end) == (session, start, end) for record in known):
            return True
        last = max(known, key=lambda record: record.end, default=None)
        if last is not None and start < last.end:
            raise BudgetError(
                f"ledger {self._path}: the compute parties offer noise from position {start} on, but up to position "
                f"{last.end} it was given to a session before (row {last.number}): their state was restored from an "
                "old copy; they have to run `mpcdp noise discard` before another session"
            )
        return False

    def _read_all(self) -> Sequence[Entry]:
        """Read and verify every row."""
        self._entries, self._last_hash = [], GENESIS
        return self._read_new()

    def _read_new(self) -> Sequence[Entry]:
        """Read and verify the rows that are new since the last reading; return all entries."""
        query = "SELECT number, content, hash FROM entries WHERE number > ? OR number < 1 ORDER BY number"
        for number, text, row_hash in self._connection.execute(query, (len(self._entries),)):
            if number != len(self._entries) + 1:
                raise self._damaged(len(self._entries) + 1, "is missing")
            if not isinstance(text, str) or row_hash != chain_hash(self._last_hash, number, text):
                raise self._damaged(number, "was edited or moved")
            self._entries.append(parse_row(number, text))
            self._last_hash = row_hash
        head = self._connection.execute("SELECT number, hash FROM head").fetchone()
        if head != (len(self._entries), self._last_hash):
            raise self._damaged(len(self._entries) + 1, "is missing")
        return self._entries

    def _damaged(self, number: int, what: str) -> BudgetError:
        return BudgetError(
            f"ledger {self._path}: row {number} {what}; what was spent is uncertain, so nothing more is charged: find "
            "out who changed the file"
        )

    def _unexpected(self, session: bytes, round_index: int, what: str) -> BudgetError:
        return BudgetError(
            f"ledger {self._path}: round {round_index} of session {session.hex()[:16]} was released {what}; take no "
            "further part in this task and report it to the other owners"
        )
