"""What the coordinator finds again after it was started again."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mpcdp.roles.coordinator_journal import CoordinatorJournal
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport.messages import Release, SessionRef

REF = SessionRef(task_digest=b"t" * 32, session=b"s" * 32)
EXPECTED = OwnerSet.of([0, 1])


def _release(value: int) -> Release:
    return Release(values=np.full(3, value, dtype=np.int64), owners=OwnerSet.of([0]))


def test_a_round_that_was_asked_for_is_asked_for_again_in_the_same_words(tmp_path: Path) -> None:
    with CoordinatorJournal(tmp_path) as journal:
        assert journal.stored(REF.task_digest) is None
        journal.open_session(REF)
        journal.start(REF)
        for index in range(3):
            journal.ask(REF, index, EXPECTED)
            if index < 2:
                journal.record_release(REF, index, _release(index))
        journal.serve(REF, "owner-1")
    with CoordinatorJournal(tmp_path) as journal:
        record = journal.stored(REF.task_digest)
        assert record is not None
        assert (record.ref, record.started, record.over, record.releases) == (REF, True, False, 2)
        assert (record.asked, record.served) == (EXPECTED, frozenset({"owner-1"}))
        assert [journal.release(REF, index).values[0] for index in range(2)] == [0, 1]
        assert journal.release(REF, 0).owners == OwnerSet.of([0])
        journal.record_release(REF, 2, _release(2))
        after = journal.stored(REF.task_digest)
        assert after is not None
        assert (after.releases, after.asked) == (3, None)  # the next round may be asked for anybody


def test_only_a_session_that_owners_were_told_of_is_remembered(tmp_path: Path) -> None:
    other = SessionRef(task_digest=REF.task_digest, session=b"o" * 32)
    with CoordinatorJournal(tmp_path) as journal:
        journal.open_session(REF)
        journal.end(REF, "owner-2: did not join")
        assert journal.stored(REF.task_digest) is None
        journal.open_session(other)
        journal.start(other)
        journal.record_release(other, 0, _release(7))
        journal.end(other, "party-1: it is gone")
        journal.end(other, None)
        record = journal.stored(REF.task_digest)
        assert record is not None
        assert (record.ref, record.over, record.reason) == (other, True, "party-1: it is gone")
        assert record.releases == 0
        with closing(sqlite3.connect(tmp_path / "session.db")) as database:
            assert database.execute("SELECT count(*) FROM releases").fetchone() == (0,)


@pytest.mark.parametrize("asked", [False, True])
def test_a_request_is_durable_and_so_is_every_release_before_it(tmp_path: Path, asked: bool) -> None:
    with CoordinatorJournal(tmp_path) as journal:
        journal.open_session(REF)
        journal.record_release(REF, 0, _release(1))
        if asked:
            journal.ask(REF, 1, EXPECTED)
        assert journal._database.execute("PRAGMA synchronous") == [(2,)]
