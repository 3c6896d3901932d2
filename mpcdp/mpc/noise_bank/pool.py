"""One compute party's durable pool of shares of joint noise: a small database, and a file of samples for every batch.

Samples have positions 0, 1, 2, ..., which only ever grow. They come in *batches* that all parties made together; a
batch counts once every party has it on disk (`mpcdp.mpc.noise_bank.filling`). A session *reserves* a range beyond
everything that was ever reserved, durably, before it uses any of it. So whatever a crash, a power cut or a restored
copy brings back, a position serves one session.

A pool belongs to one group of compute parties, one rank in it, and one law of noise. One session at a time uses it.
"""

import fcntl
import hashlib
import sqlite3
from bisect import bisect
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from mpcdp.errors import BudgetError, ConfigError
from mpcdp.mpc.noise_bank.batch_file import BatchFile, destroy_file
from mpcdp.mpc.noise_bank.state import Batch, NoiseRange, PoolState, whole_blocks
from mpcdp.private_files import make_private_file
from mpcdp.secret_sharing.shares import NoiseShare

__all__ = ["NoisePool", "pool_folder", "pool_state"]

_BUSY_SECONDS = 20.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS pool (
    row INTEGER PRIMARY KEY CHECK (row = 0), bank BLOB NOT NULL, next INTEGER NOT NULL, made INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS batch (
    start INTEGER PRIMARY KEY, count INTEGER NOT NULL, name BLOB NOT NULL UNIQUE, ready INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS reservation (
    session BLOB PRIMARY KEY, start INTEGER NOT NULL, count INTEGER NOT NULL, over INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO pool VALUES (0, x'', 0, 0);
"""


def pool_folder(state: Path, *, certificates: Iterable[str], rank: int, distribution: str, scale: int) -> Path:
    """Name the folder of one party's pool.

    Args:
        state: the party's state folder.
        certificates: DNS names of the compute parties, in rank order: who they are, in whatever task.
        rank: this party's.
        distribution: of the noise.
        scale: of the universal noise.
    """
    group = "\n".join((*certificates, str(rank), distribution, str(scale)))
    return state / "noise" / f"{distribution}-{hashlib.sha256(group.encode()).hexdigest()[:16]}"


def pool_state(folder: Path) -> PoolState:
    """Read the state of a pool that another process may be using; a pool that does not exist is empty.

    Raises:
        ConfigError: the folder holds something else.
    """
    if not (folder / "bank.db").exists():
        return PoolState()
    try:
        database = sqlite3.connect(folder / "bank.db", timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            return _read_state(database, b"")
        finally:
            database.close()
    except (sqlite3.Error, ValueError) as error:
        raise ConfigError(f"noise pool {folder}: {error}; run `mpcdp noise discard` at every compute party") from error


class NoisePool:
    """The pool of one party; one process at a time has it open. Use it as a context manager, on one thread.

    Args:
        folder: made, with all in it, for its user alone, when it does not exist; see `pool_folder`.

    Raises:
        ConfigError: the folder cannot be used, or another process uses it.

    Guarantees:
        What a method did is on disk when it returns (SQLite's ``synchronous=EXTRA``, fsync of samples and folders).
        No two sessions get a position in common. Nothing is handed out of a batch that not all parties have on disk,
        nor from a block that changed since it was written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: list[tuple[int, int]] = []
        with ExitStack() as stack:
            try:
                make_private_file(folder / "lock")
                lock = stack.enter_context((folder / "lock").open("rb"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                make_private_file(folder / "bank.db")
                self._database = sqlite3.connect(folder / "bank.db", timeout=_BUSY_SECONDS, isolation_level=None)
                stack.callback(self._database.close)
                # EXTRA is FULL and an fsync of the folder, without which a power cut could bring an old state back.
                self._database.execute("PRAGMA synchronous = EXTRA")
                self._database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
                self._remove_strays()
            except BlockingIOError as error:
                raise ConfigError(f"noise pool {folder}: another process uses it; wait for its end") from error
            except (OSError, sqlite3.Error) as error:
                raise ConfigError(f"noise pool {folder}: {error}; give this process a folder it can write") from error
            self._resources = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"NoisePool({str(self._folder)!r})"

    def close(self) -> None:
        """Let other processes use it."""
        self._resources.close()

    def state(self, session: bytes = b"") -> PoolState:
        """Return what the parties compare, with the range of a session."""
        return _read_state(self._database, session)

    # -- filling ---------------------------------------------------------------------------------------------------

    def agree(self, agreed: PoolState, session: bytes = b"") -> None:
        """Take over what the parties agreed on; what of this pool is not in it, and not used, is destroyed.

        Args:
            agreed: from `mpcdp.mpc.noise_bank.state.agree`.
            session: the session whose range was agreed on.

        Raises:
            BudgetError: it would let positions come back.
        """
        with self._transaction():
            mine = self.state(session)
            changed = mine.bank != agreed.bank and not mine.untouched
            if changed or agreed.next < mine.next or agreed.made < mine.made:
                raise BudgetError(f"noise pool {self._folder}: positions only grow; keep its state from restores")
            self._database.execute(
                "UPDATE pool SET bank = ?, next = ?, made = ?", (agreed.bank, agreed.next, agreed.made)
            )
            if mine.reserved is not None and agreed.reserved is None:
                self.destroy(mine.reserved[0], sum(mine.reserved), sync=True)
                self._database.execute("DELETE FROM reservation WHERE session = ?", (session,))
            self._forget(set(self._batches()) - set(agreed.batches))
        self._remove_strays()

    def store(self, batch: Batch, chunks: Iterable[NoiseShare]) -> None:
        """Write a new batch to disk; nothing of it is used before `commit`.

        Args:
            batch: what all parties agreed to make, at positions that no batch ever had.
            chunks: its samples in order.

        Raises:
            BudgetError: its positions were taken before.
            ConfigError: the disk failed.
        """
        with self._transaction():
            if batch.start < self.state().made:
                raise BudgetError(f"noise pool {self._folder}: position {batch.start} had a batch before")
            self._database.execute("UPDATE pool SET made = ?", (batch.end,))
            self._database.execute("INSERT INTO batch VALUES (?, ?, ?, 0)", (batch.start, batch.count, batch.name))
        try:
            BatchFile(self._folder, batch).write(chunks)
        except OSError as error:
            raise ConfigError(f"noise pool {self._folder}: {error.strerror}; make room for its samples") from error

    def commit(self, batch: Batch) -> None:
        """Let a batch be used: every party has it on disk."""
        with self._transaction():
            self._database.execute("UPDATE batch SET ready = 1 WHERE name = ?", (batch.name,))

    # -- using -----------------------------------------------------------------------------------------------------

    def reserve(self, session: bytes, samples: int) -> NoiseRange:
        """Set samples aside for a session; a session that asks again gets the same ones.

        Args:
            session: session id.
            samples: how many it needs, rounded up to whole blocks.

        Raises:
            BudgetError: the session is over or reserved another number, or the pool does not hold so many.
        """
        count = whole_blocks(samples)
        with self._transaction():
            query = "SELECT start, count, over FROM reservation WHERE session = ?"
            row = self._database.execute(query, (session,)).fetchone()
            state = self.state()
            if row is not None and row[1:] != (count, 0):
                raise BudgetError(f"noise pool {self._folder}: this session has had its noise; start a new session")
            start = state.place(count) if row is None else row[0]
            if start is None:
                raise BudgetError(
                    f"noise pool {self._folder}: a session needs {count} samples and {state.free} are free; "
                    "run `mpcdp noise fill`"
                )
            if row is None:
                self._database.execute("INSERT INTO reservation VALUES (?, ?, ?, 0)", (session, start, count))
                self._database.execute("UPDATE pool SET next = ?", (start + count,))
        return NoiseRange(state.bank, start, count)

    def take(self, start: int, samples: int) -> NoiseShare:
        """Read reserved samples, shape (samples,), once in the life of this object.

        Raises:
            BudgetError: a sample of them is not reserved, was taken before, is in no ready batch, or changed on disk.
        """
        end = start + samples
        reserved = "SELECT 1 FROM reservation WHERE start <= ? AND start + count >= ? AND over = 0"
        if self._database.execute(reserved, (start, end)).fetchone() is None or samples < 1:
            raise BudgetError(f"noise pool {self._folder}: no session has reserved positions {start} to {end - 1}")
        place = bisect(self._taken, (start, end))
        if any(low < end and start < high for low, high in self._taken[max(0, place - 1) : place + 1]):
            raise BudgetError(f"the noise at position {start} was used already; it serves one round only")
        batches = [batch for batch in self._batches(ready=True) if batch.start < end and start < batch.end]
        pieces = [BatchFile(self._folder, each).read(max(start, each.start), min(end, each.end)) for each in batches]
        if sum(piece.size for piece in pieces) != samples:
            raise BudgetError(f"noise pool {self._folder}: positions {start} to {end - 1} are not all ready")
        self._taken.insert(place, (start, end))
        return NoiseShare(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))

    def destroy(self, start: int, end: int, *, sync: bool = False) -> None:
        """Overwrite the whole blocks between two reserved positions; they are gone from the disk if ``sync``."""
        for batch in self._batches():
            if batch.start < end and start < batch.end:
                BatchFile(self._folder, batch).overwrite(max(start, batch.start), min(end, batch.end), sync=sync)

    def release(self, session: bytes) -> None:
        """Destroy what is left of a session's samples: it is over, and never gets any again."""
        reserved = self.state(session).reserved
        if reserved is None:
            return
        self.destroy(reserved[0], sum(reserved), sync=True)
        with self._transaction():
            self._database.execute("UPDATE reservation SET over = 1 WHERE session = ?", (session,))
            self._forget(self._used_up())
        self._remove_strays()

    def release_others(self, session: bytes) -> None:
        """Release all sessions but one: their processes ended without doing it."""
        for (other,) in self._database.execute("SELECT session FROM reservation WHERE over = 0").fetchall():
            if other != session:
                self.release(other)

    def discard(self) -> None:
        """Destroy everything; the next pool has another id and begins at position 0."""
        with self._transaction():
            self._forget(set(self._batches()))
            self._database.execute("DELETE FROM reservation")
            self._database.execute("UPDATE pool SET bank = x'', next = 0, made = 0")
        self._remove_strays()

    # -- details ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite ends it itself when the disk is full, for example
                    self._database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise ConfigError(f"noise pool {self._folder}: {error}; look after its disk") from error

    def _batches(self, *, ready: bool = False) -> list[Batch]:
        rows = self._database.execute("SELECT start, count, name FROM batch WHERE ready >= ? ORDER BY start", (ready,))
        return [Batch(*row) for row in rows]

    def _used_up(self) -> set[Batch]:
        """Find the batches of which no session has or will have anything."""
        following = self.state().next
        query = "SELECT 1 FROM reservation WHERE over = 0 AND start < ? AND start + count > ?"
        return {
            batch
            for batch in self._batches()
            if batch.end <= following and self._database.execute(query, (batch.end, batch.start)).fetchone() is None
        }

    def _forget(self, batches: set[Batch]) -> None:
        """Delete batches from the database, inside a transaction; their files are strays from its end on."""
        self._database.executemany("DELETE FROM batch WHERE name = ?", [(batch.name,) for batch in batches])

    def _remove_strays(self) -> None:
        """Destroy the files of batches that are not in the database, left by a crash if not by this process."""
        known = {BatchFile(self._folder, batch).path for batch in self._batches()}
        for path in self._folder.glob("*.noise"):
            if path not in known:
                destroy_file(path)


def _read_state(database: sqlite3.Connection, session: bytes) -> PoolState:
    bank, following, made = database.execute("SELECT bank, next, made FROM pool").fetchone()
    rows = database.execute("SELECT start, count, name FROM batch WHERE ready = 1 ORDER BY start").fetchall()
    query = "SELECT start, count FROM reservation WHERE session = ? AND over = 0"
    reserved = database.execute(query, (session,)).fetchone()
    return PoolState(bank, following, made, tuple(Batch(*row) for row in rows), reserved)
