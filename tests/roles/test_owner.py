"""What an owner does with whatever its coordinator sends, and what it draws afresh."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_world import make_dataset, make_task

from mpcdp.errors import PeerUnavailable, ProtocolError, SessionAborted
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.owner import Owner
from mpcdp.task import Task
from mpcdp.transport.messages import (
    Aborted,
    Attendance,
    Enrolment,
    Finished,
    RoundStarted,
    SessionEvent,
    SessionRef,
    SessionStarted,
    Upload,
)

RECORDS = {"owner-1": 20, "owner-2": 35}


class _Script:
    """A network whose coordinator sends given events and whose parties take everything."""

    def __init__(self, events: list[SessionEvent], ledger: Ledger) -> None:
        self._events = events
        self._ledger = ledger
        self.enrolments: list[Enrolment] = []
        self.uploads: list[Upload] = []
        self.charges_at_first_enrolment = -1

    def coordinator(self, name: str) -> "_Script":
        return self

    def compute_party(self, name: str) -> "_Script":
        return self

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        yield from self._events

    def enrol(self, caller: str, enrolment: Enrolment) -> None:
        if not self.enrolments:
            self.charges_at_first_enrolment = len(self._ledger.entries())
        self.enrolments.append(enrolment)

    def upload(self, caller: str, upload: Upload) -> None:
        self.uploads.append(upload)


@pytest.fixture(name="task", scope="module")
def _task() -> Task:
    return make_task(RECORDS, features=3)


def _ref(task: Task, byte: bytes = b"s") -> SessionRef:
    return SessionRef(task_digest=task.digest, session=byte * 32)


def _good(task: Task) -> list[SessionEvent]:
    ref, zeros = _ref(task), np.zeros(4)
    finished = Finished(ref=ref, model=zeros, owners=(("owner-1", "owner-2"),))
    return [SessionStarted(ref), RoundStarted(ref=ref, round_index=0, model=zeros), finished]


def _run(folder: Path, task: Task, events: list[SessionEvent]) -> _Script:
    with Ledger(folder / "ledger.db") as ledger:
        script = _Script(events, ledger)
        network: Any = script
        dataset = make_dataset(task, "owner-1", seed=1)
        Owner("owner-1", task, make_plan(task), dataset, network, ledger, folder).run()
    return script


def test_it_is_charged_before_anything_leaves_it(tmp_path: Path, task: Task) -> None:
    script = _run(tmp_path, task, _good(task))
    assert script.charges_at_first_enrolment == 1
    assert [len(enrolment.key) for enrolment in script.enrolments] == [32, 32, 0]
    assert len(script.uploads) == 1
    assert (tmp_path / "model.json").exists()


def test_its_keys_nonces_and_shares_are_fresh_in_every_session(tmp_path: Path, task: Task) -> None:
    """Same table, same session id, same round: a restored or cloned owner repeats none of its secrets."""
    runs = [_run(tmp_path / str(number), task, _good(task)) for number in range(3)]
    keys = [enrolment.key for run in runs for enrolment in run.enrolments if enrolment.key]
    assert len(set(keys)) == len(keys) == 6
    assert len({run.uploads[0].nonce for run in runs}) == 3
    words = np.concatenate([run.uploads[0].values for run in runs])
    assert len(np.unique(words)) == len(words)


def _scripts(task: Task) -> dict[str, tuple[list[SessionEvent], str]]:
    started, asked, finished = _good(task)
    assert isinstance(asked, RoundStarted)
    assert isinstance(finished, Finished)
    other = _ref(task, b"o")
    return {
        "the same round twice": ([started, asked, asked], "round 0"),
        "a round too many": ([started, asked, replace(asked, round_index=1)], "round 1"),
        "a round of another session": ([started, replace(asked, ref=other)], "does not take part"),
        "a second session": ([started, SessionStarted(other)], "another session"),
        "a round before the session": ([asked], "does not take part"),
        "another first model": ([started, replace(asked, model=np.ones(4))], "another model"),
        "a model of another shape": ([started, replace(asked, model=np.zeros(5))], "5 coordinates"),
        "an end before the release": ([started, finished], "before all of its rounds"),
        "no release": ([started, asked, replace(finished, owners=())], "before all of its rounds"),
        "a release of strangers": ([started, asked, replace(finished, owners=(("x",),))], "before all of its rounds"),
        "a final model of another shape": ([started, asked, replace(finished, model=np.zeros(3))], "does not fit"),
        "a final model of another session": ([started, asked, replace(finished, ref=other)], "does not take part"),
        "a task it does not hold": ([SessionStarted(SessionRef(task_digest=bytes(32), session=bytes(32)))], "task"),
    }


@pytest.mark.parametrize("case", list(_scripts(make_task(RECORDS, features=3))))
def test_it_refuses(tmp_path: Path, task: Task, case: str) -> None:
    events, words = _scripts(task)[case]
    with pytest.raises(ProtocolError, match=words):
        _run(tmp_path, task, events)
    assert not (tmp_path / "model.json").exists()


def test_it_never_uploads_twice_for_a_round(tmp_path: Path, task: Task) -> None:
    started, asked, _ = _good(task)
    with Ledger(tmp_path / "ledger.db") as ledger:
        script = _Script([started, asked, asked], ledger)
        network: Any = script
        owner = Owner(
            "owner-1", task, make_plan(task), make_dataset(task, "owner-1", seed=1), network, ledger, tmp_path
        )
        with pytest.raises(ProtocolError):
            owner.run()
    assert len(script.uploads) == 1


def test_it_reports_an_end_without_a_model(tmp_path: Path, task: Task) -> None:
    with pytest.raises(SessionAborted, match="coordinator ended the session: why"):
        _run(tmp_path / "a", task, [Aborted("why")])
    with pytest.raises(PeerUnavailable, match="coordinator"):
        _run(tmp_path / "b", task, [])
