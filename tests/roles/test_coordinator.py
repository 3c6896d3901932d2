"""Owners come, go and come back."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from session_world import make_task

from mpcdp.data.dataset import Dataset
from mpcdp.errors import ProtocolError
from mpcdp.plan import make_plan
from mpcdp.roles.coordinator import Coordinator
from mpcdp.task import Task
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


_ROWS = np.array([[0.5, 0.5], [-0.5, 0.5], [0.25, 0.5], [0.0, 0.5]])
_CLASSES, _NUMBERS, _THREE = (
    np.array([1.0, -1.0, -1.0, 1.0]),
    np.array([0.5, -1.0, 0.0, 0.25]),
    np.array([0.0, 1, 2, 2]),
)
_POINT = np.array([2.0, -1.0])
_SCORES = _ROWS @ _POINT


def _trained(kind: str, label: dict[str, Any], **model: Any) -> Task:
    document = make_task({"owner-1": 20, "owner-2": 35}, features=1).model_dump(mode="json", by_alias=True)
    document["model"] = {"kind": kind, "regularization": 0.01, **model}
    document["method"] = {"kind": "gradient-perturbation"}
    document["schema"]["label"] = {"column": "y", **label}
    return Task.model_validate({name: content for name, content in document.items() if content is not None})


@pytest.mark.parametrize(
    ("task", "point", "labels", "expected"),
    [
        (
            _trained("logistic-regression", {"classes": ["a", "b"]}),
            _POINT,
            _CLASSES,
            np.log1p(np.exp(-_CLASSES * _SCORES)).mean(),
        ),
        (
            _trained("ridge-regression", {"lower": 0.0, "upper": 9.0}),
            _POINT,
            _NUMBERS,
            ((_SCORES - _NUMBERS) ** 2).mean() / 2,
        ),
        (_trained("ridge-regression", {"lower": 0.0, "upper": 9.0}), _POINT * 1e200, _NUMBERS, None),
        (_trained("multinomial-logistic-regression", {"classes": ["a", "b", "c"]}), np.zeros(6), _THREE, np.log(3)),
        (
            _trained(
                "module", {"classes": ["a", "b"]}, factory="record_losses:linear", loss="record_losses:hinge", seed=1
            ),
            _POINT,
            _CLASSES,
            np.maximum(0, 1 - _CLASSES * _SCORES).mean(),
        ),
    ],
    ids=["margins", "numbers", "no finite number", "several classes", "module"],
)
def test_every_round_is_judged_by_its_mean_loss_as_well(
    tmp_path: Path, task: Task, point: Any, labels: Any, expected: float | None
) -> None:
    nowhere: Any = None
    public = Dataset(_ROWS.copy(), labels.copy(), task.schema_.label.class_count)
    coordinator = Coordinator(task, make_plan(task), nowhere, tmp_path, validation=public)
    judged = coordinator._judged(SimpleNamespace(state=SimpleNamespace(model=point)))  # type: ignore[arg-type]
    assert judged["validation_loss"] == (None if expected is None else pytest.approx(expected, abs=1e-6))
    assert set(judged) == {"validation", "validation_loss"}
