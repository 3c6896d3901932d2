"""What a compute party must not forget survives, and what it must not keep does not."""

import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest

from mpcdp.errors import BudgetError, ConfigError
from mpcdp.roles.journal import PartyJournal
from mpcdp.secret_sharing.shares import NoisedVector
from mpcdp.transport.messages import SessionRef

REF = SessionRef(task_digest=b"t" * 32, session=b"s" * 32)
OTHER_SESSION = SessionRef(task_digest=b"t" * 32, session=b"r" * 32)
OTHER_TASK = SessionRef(task_digest=b"u" * 32, session=b"r" * 32)


def _share(value: int) -> NoisedVector:
    return NoisedVector(np.full(3, value, dtype=np.int64))


def test_a_task_is_bound_to_one_session_for_ever(tmp_path: Path) -> None:
    with PartyJournal(tmp_path) as journal:
        journal.check_unused(REF)
        journal.bind_session(REF)
        journal.bind_session(REF)
    with PartyJournal(tmp_path) as journal:
        journal.check_unused(REF)
        journal.check_unused(OTHER_TASK)
        for refuse in (journal.check_unused, journal.bind_session):
            with pytest.raises(BudgetError, match="run once"):
                refuse(OTHER_SESSION)
        journal.bind_session(OTHER_TASK)


def test_two_processes_cannot_bind_the_same_task_to_two_sessions(tmp_path: Path) -> None:
    """A cloned process that shares the state folder loses the race instead of winning it too."""
    with PartyJournal(tmp_path) as first, PartyJournal(tmp_path) as second:
        first.check_unused(REF)
        second.check_unused(OTHER_SESSION)
        first.bind_session(REF)
        with pytest.raises(BudgetError):
            second.bind_session(OTHER_SESSION)


def test_a_round_is_bound_to_one_agreement_for_ever(tmp_path: Path) -> None:
    with PartyJournal(tmp_path) as journal:
        journal.bind_round(REF, 0, b"agreement", _share(1))
        journal.bind_round(REF, 1, b"agreement", _share(2))
    with PartyJournal(tmp_path) as journal, pytest.raises(BudgetError, match="round 0"):
        journal.bind_round(REF, 0, b"another", _share(3))


def test_records_are_on_disk_when_a_method_returns(tmp_path: Path) -> None:
    """The file is read without the journal's connection being closed, as after a power cut."""
    journal = PartyJournal(tmp_path)
    journal.bind_session(REF)
    journal.bind_round(REF, 0, b"agreement", _share(7))
    with sqlite3.connect(tmp_path / "party.db") as database:
        assert database.execute("SELECT session FROM session").fetchall() == [(REF.session,)]
        [(agreement, share)] = database.execute("SELECT agreement, share FROM round").fetchall()
    database.close()
    assert agreement == b"agreement"
    assert share == _share(7).values.tobytes()
    with journal:
        assert journal._database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_shares_of_a_finished_session_leave_no_trace_on_disk(tmp_path: Path) -> None:
    secret = 0x1122334455667788
    with PartyJournal(tmp_path) as journal:
        journal.bind_round(REF, 0, b"agreement", _share(secret))
        assert any(secret.to_bytes(8, "little") in file.read_bytes() for file in tmp_path.iterdir())
        journal.forget_shares(REF)
        assert not any(secret.to_bytes(8, "little") in file.read_bytes() for file in tmp_path.iterdir())
    with PartyJournal(tmp_path) as journal, pytest.raises(BudgetError):
        journal.bind_round(REF, 0, b"agreement", _share(secret))


def test_the_journal_is_readable_by_its_user_only(tmp_path: Path) -> None:
    with PartyJournal(tmp_path / "state"):
        for path in (tmp_path / "state", tmp_path / "state" / "party.db"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_an_unusable_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state folder"):
        PartyJournal(tmp_path / "file")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "party.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match="state folder"):
        PartyJournal(tmp_path / "damaged")


def test_shares_of_a_killed_process_are_destroyed_when_the_next_one_starts(tmp_path: Path) -> None:
    killed = PartyJournal(tmp_path)
    killed.bind_round(REF, 0, b"agreement", _share(7))
    with PartyJournal(tmp_path) as journal:
        with sqlite3.connect(tmp_path / "party.db") as database:
            assert database.execute("SELECT agreement, share FROM round").fetchall() == [(b"agreement", None)]
        with pytest.raises(BudgetError, match="round 0"):
            journal.bind_round(REF, 0, b"agreement", _share(7))
