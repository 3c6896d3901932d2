"""Owners come, go and come back."""

from pathlib import Path
from typing import Any

import pytest
from session_world import make_task

from mpcdp.errors import ProtocolError
from mpcdp.plan import make_plan
from mpcdp.roles.coordinator import Coordinator
from mpcdp.transport.messages import Attendance


def test_an_owner_that_lost_its_connection_may_come_back_before_the_start(tmp_path: Path) -> None:
    """The end of the old connection, noticed late or twice, does not throw the new one out."""
    task = make_task({"owner-1": 20, "owner-2": 35}, features=3)
    nowhere: Any = None
    coordinator = Coordinator(task, make_plan(task), nowhere, tmp_path)
    attendance = Attendance(task.digest, "owner-1", 20)
    first: Any = coordinator.attend("owner-1", attendance)
    second = coordinator.attend("owner-1", attendance)
    assert list(first) == []
    first.close()
    assert coordinator._attending == {"owner-1"}
    assert coordinator._mailboxes == {"owner-1": second}


@pytest.mark.parametrize(
    ("attendance", "words"),
    [(Attendance(bytes(32), "owner-1", 20), "task"), (Attendance(b"", "owner-1", 21), "21 records")],
)
def test_an_owner_with_another_task_or_table_is_refused(tmp_path: Path, attendance: Attendance, words: str) -> None:
    task = make_task({"owner-1": 20, "owner-2": 35}, features=3)
    nowhere: Any = None
    coordinator = Coordinator(task, make_plan(task), nowhere, tmp_path)
    digest = attendance.task_digest or task.digest
    with pytest.raises(ProtocolError, match=words):
        coordinator.attend("owner-1", Attendance(digest, "owner-1", attendance.record_count))
    assert not coordinator._attending
