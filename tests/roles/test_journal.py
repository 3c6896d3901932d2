"""What a compute party must not forget survives, and what it must not keep does not."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpcdp.errors import BudgetError, ConfigError
from mpcdp.roles.journal import Bound, PartyJournal, StoredRelease
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import NoisedVector
from mpcdp.transport.messages import Enrolment, NoiseUse, Outcome, Release, SessionRef

REF = SessionRef(task_digest=b"t" * 32, session=b"s" * 32)
OTHER_SESSION = SessionRef(task_digest=b"t" * 32, session=b"r" * 32)
OTHER_TASK = SessionRef(task_digest=b"u" * 32, session=b"q" * 32)
NOTHING, FIRST = b"0" * 32, b"1" * 32
ENROLMENT = Enrolment(ref=REF, owner="owner-1", key=b"k" * 32)
NOISE = NoiseUse(bank=b"b" * 16, start=1024, end=4096)


def _bound(round_index: int, value: int, agreement: bytes = b"agreement") -> Bound:
    share = NoisedVector(np.full(3, value, dtype=np.int64))
    return Bound(round_index, OwnerSet.of([0, 2]), agreement, share)


def _release(round_index: int) -> StoredRelease:
    release = Release(values=np.arange(3, dtype=np.int64) + round_index, owners=OwnerSet.of([0, 2]))
    return StoredRelease(round_index, OwnerSet.of([0, 1, 2]), release)


def _open(folder: Path) -> PartyJournal:
    journal = PartyJournal(folder)
    journal.open_session(REF, NOTHING)
    return journal


def test_a_task_is_bound_to_one_session_for_ever_once_an_owner_has_enrolled(tmp_path: Path) -> None:
    with PartyJournal(tmp_path) as journal:
        journal.open_session(OTHER_SESSION, NOTHING)
        journal.open_session(REF, NOTHING)  # nobody has enrolled: the coordinator may have begun anew
        journal.open_session(REF, NOTHING)
        journal.enrol(0, ENROLMENT)
        journal.enrol(0, ENROLMENT)
    with PartyJournal(tmp_path) as journal:
        with pytest.raises(BudgetError, match="run once"):
            journal.open_session(OTHER_SESSION, NOTHING)
        with pytest.raises(BudgetError, match="run once"):
            journal.enrol(1, replace(ENROLMENT, ref=OTHER_SESSION))
        journal.open_session(REF, NOTHING)
        journal.open_session(OTHER_TASK, NOTHING)
        assert journal.enrolments(REF) == {0: ENROLMENT}
        journal.end(REF, None)
        with pytest.raises(BudgetError, match="run once"):
            journal.open_session(REF, NOTHING)


def test_two_processes_cannot_bind_the_same_task_to_two_sessions(tmp_path: Path) -> None:
    """A cloned process that shares the state folder loses the race instead of winning it too."""
    with PartyJournal(tmp_path) as first, PartyJournal(tmp_path) as second:
        first.open_session(REF, NOTHING)
        first.enrol(0, ENROLMENT)
        with pytest.raises(BudgetError):
            second.open_session(OTHER_SESSION, NOTHING)


def test_a_round_is_bound_to_one_agreement_for_ever(tmp_path: Path) -> None:
    with _open(tmp_path) as journal:
        journal.bind_round(REF, _bound(0, 1))
        journal.record_release(REF, _release(0), Outcome(1, FIRST))
        journal.bind_round(REF, _bound(1, 2))
    with PartyJournal(tmp_path) as journal:
        for index, agreement in ((0, b"agreement"), (0, b"another"), (1, b"agreement"), (1, b"another")):
            with pytest.raises(BudgetError, match=f"round {index}"):
                journal.bind_round(REF, _bound(index, 3, agreement))
        bound = journal.bound(REF)
        assert bound is not None
        assert (bound.round_index, bound.asked, bound.agreement) == (1, OwnerSet.of([0, 2]), b"agreement")
        assert bound.share.values.tolist() == [2, 2, 2]


def test_a_round_that_another_party_told_of_is_not_bound_again(tmp_path: Path) -> None:
    """A party that was restored learns how far the others are, and joins them there."""
    with _open(tmp_path) as journal:
        journal.record_release(REF, _release(6), Outcome(7, FIRST))
        with pytest.raises(BudgetError, match="round 6"):
            journal.bind_round(REF, _bound(6, 1))
        with pytest.raises(BudgetError, match="never undone"):
            journal.record_release(REF, _release(5), Outcome(6, NOTHING))
        journal.bind_round(REF, _bound(7, 1))


def test_an_earlier_process_s_session_is_found_as_it_was(tmp_path: Path) -> None:
    with _open(tmp_path) as journal:
        assert journal.stored(OTHER_TASK.task_digest) is None
        assert (journal.bound(REF), journal.released(REF)) == (None, None)
        journal.note_noise(REF, replace(NOISE, start=0))
        journal.note_noise(REF, NOISE)
        journal.enrol(3, ENROLMENT)
        journal.record_release(REF, _release(4), Outcome(5, FIRST))
    with PartyJournal(tmp_path) as journal:
        stored = journal.stored(REF.task_digest)
        assert stored is not None
        assert (stored.ref, stored.begun, stored.over) == (REF, True, False)
        assert (stored.outcome, stored.noise) == (Outcome(5, FIRST), NOISE)
        released = journal.released(REF)
        assert released is not None
        assert (released.round_index, released.asked) == (4, OwnerSet.of([0, 1, 2]))
        assert released.release.values.tolist() == [4, 5, 6]
        assert released.release.owners == OwnerSet.of([0, 2])
        with pytest.raises(BudgetError, match="other noise"):
            journal.note_noise(REF, replace(NOISE, start=2048))


def test_only_the_last_round_is_kept(tmp_path: Path) -> None:
    with _open(tmp_path) as journal:
        for index in range(50):
            journal.bind_round(REF, _bound(index, index))
            journal.record_release(REF, _release(index), Outcome(index + 1, FIRST))
        with closing(sqlite3.connect(tmp_path / "party.db")) as database:
            assert database.execute("SELECT count(*) FROM bound").fetchone() == (1,)
            assert database.execute("SELECT count(*) FROM released").fetchone() == (1,)


def test_records_are_on_disk_when_a_method_returns(tmp_path: Path) -> None:
    """The file is read without the journal's connection being closed, as after a power cut."""
    journal = _open(tmp_path)
    journal.enrol(0, ENROLMENT)
    journal.bind_round(REF, _bound(0, 7))
    journal.record_release(REF, _release(0), Outcome(1, FIRST))
    with closing(sqlite3.connect(tmp_path / "party.db")) as database:
        assert database.execute("SELECT session, begun FROM sessions").fetchall() == [(REF.session, 1)]
        [(agreement, share)] = database.execute("SELECT agreement, share FROM bound").fetchall()
    assert agreement == b"agreement"
    assert share == _bound(0, 7).share.values.tobytes()
    with journal:
        # Written without an fsync of their own, or not: afterwards everything is durable again.
        assert journal._database.execute("PRAGMA synchronous") == [(2,)]
        assert journal._database.execute("PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("moment", ["enrolled", "bound", "released"])
def test_a_killed_process_has_written_what_it_has_written(tmp_path: Path, moment: str) -> None:
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_journal import *
from test_journal import _bound, _open, _release
journal = _open(Path({str(tmp_path)!r}))
journal.enrol(0, ENROLMENT)
if {moment!r} != "enrolled":
    journal.bind_round(REF, _bound(0, 7))
if {moment!r} == "released":
    journal.record_release(REF, _release(0), Outcome(1, FIRST))
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    with PartyJournal(tmp_path) as journal:
        assert journal.enrolments(REF) == {0: ENROLMENT}
        assert (journal.bound(REF) is None) == (moment == "enrolled")
        assert (journal.released(REF) is None) == (moment != "released")


def test_shares_and_keys_of_a_session_that_is_over_leave_no_trace_on_disk(tmp_path: Path) -> None:
    secret = 0x1122334455667788
    with _open(tmp_path) as journal:
        journal.enrol(0, ENROLMENT)
        journal.bind_round(REF, _bound(0, secret))

        def traces() -> list[bool]:
            content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
            return [trace in content for trace in (secret.to_bytes(8, "little"), ENROLMENT.key)]

        assert traces() == [True, True]
        journal.end(REF, "party-2: it left")
        assert traces() == [False, False]
        journal.end(REF, None)  # the first end counts
    with PartyJournal(tmp_path) as journal:
        stored = journal.stored(REF.task_digest)
        assert stored is not None
        assert (stored.over, stored.reason) == (True, "party-2: it left")
        with pytest.raises(BudgetError):
            journal.bind_round(REF, _bound(0, secret))


def test_a_session_that_ends_before_anybody_has_enrolled_is_forgotten(tmp_path: Path) -> None:
    with _open(tmp_path) as journal:
        journal.end(REF, "owner-2: did not join")
        assert journal.stored(REF.task_digest) is None
        journal.open_session(OTHER_SESSION, NOTHING)


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


def test_a_disk_that_fails_later_is_a_clear_error_and_changes_nothing(tmp_path: Path) -> None:
    with _open(tmp_path) as journal:
        [(pages,)] = journal._database.execute("PRAGMA page_count")
        journal._database.execute(f"PRAGMA max_page_count = {pages}")
        large = replace(_bound(0, 1), agreement=bytes(1 << 20))
        with pytest.raises(ConfigError, match="start this process again"):
            journal.bind_round(REF, large)
        journal._database.execute("PRAGMA max_page_count = 100000")
        journal.bind_round(REF, _bound(0, 2))


def test_that_all_are_bound_survives_the_process_until_the_next_round(tmp_path: Path) -> None:
    with _open(tmp_path) as journal:
        assert journal.bound_by_all(REF) is None
        journal.note_bound_by_all(REF, 0)
        journal.note_bound_by_all(REF, 1)
        journal.note_bound_by_all(OTHER_SESSION, 5)
    with PartyJournal(tmp_path) as journal:
        assert journal.bound_by_all(REF) == 1
        journal.end(REF, None)
        assert journal.bound_by_all(REF) is None
        assert journal.bound_by_all(OTHER_SESSION) == 5
