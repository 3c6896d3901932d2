"""What an owner does with whatever its coordinator sends, and what it draws afresh."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_world import make_dataset, make_task

from mpcdp.errors import BudgetError, ConfigError, LateUpload, PeerUnavailable, ProtocolError, SessionAborted
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.owner import Owner
from mpcdp.roles.owner_secret import OwnerSecret
from mpcdp.roles.training import History
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.messages import (
    Aborted,
    Attendance,
    Enrolment,
    Finished,
    Outcome,
    Release,
    Released,
    RoundStarted,
    SessionEvent,
    SessionRef,
    SessionStarted,
    Upload,
)

RECORDS = {"owner-1": 20, "owner-2": 35}
RELEASE = Release(values=np.arange(4), owners=OwnerSet.of([0, 1]))


class _Script:
    """A network whose coordinator sends given events and whose parties take everything."""

    def __init__(self, events: list[SessionEvent], ledger: Ledger, outcome: Outcome, *, late: bool = False) -> None:
        self._events = events
        self._ledger = ledger
        self._outcome = outcome
        self.late = late
        self.enrolments: list[Enrolment] = []
        self.uploads: list[Upload] = []
        self.charges_at_first_enrolment = -1
        self.left = 0

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
        if self.late:
            raise LateUpload("the share is for round 0, which is over")
        self.uploads.append(upload)

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        return self._outcome

    def leave(self, caller: str, attendance: Attendance) -> None:
        self.left += 1


@pytest.fixture(name="task", scope="module")
def _task() -> Task:
    return make_task(RECORDS, features=3)


def _ref(task: Task, byte: bytes = b"s") -> SessionRef:
    return SessionRef(task_digest=task.digest, session=byte * 32)


def _good(task: Task) -> list[SessionEvent]:
    ref = _ref(task)
    return [SessionStarted(ref), RoundStarted(ref, 0, None), Finished(ref, RELEASE)]


def _outcome(task: Task, release: Release) -> Outcome:
    history = History(_ref(task), make_plan(task).digest)
    history.append(release)
    return history.outcome


def _run(
    folder: Path, task: Task, events: list[SessionEvent], *, opened: Release = RELEASE, late: bool = False
) -> _Script:
    with Ledger(folder / "ledger.db") as ledger:
        script = _Script(events, ledger, _outcome(task, opened), late=late)
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
        "a round too many": ([started, asked, replace(asked, round_index=1)], "round 1"),
        "a round of another session": ([started, replace(asked, ref=other)], "does not take part"),
        "a second session": ([started, SessionStarted(other)], "another session"),
        "a round before the session": ([asked], "does not take part"),
        "no release": ([started, asked, replace(finished, last=None)], "before all of its rounds"),
        "a release of strangers": (
            [started, asked, replace(finished, last=replace(RELEASE, owners=OwnerSet.of([0, 2])))],
            "does not allow",
        ),
        "a release of too few": (
            [started, asked, replace(finished, last=replace(RELEASE, owners=OwnerSet.of([0])))],
            "does not allow",
        ),
        "a release of another shape": (
            [started, asked, replace(finished, last=replace(RELEASE, values=np.arange(3)))],
            "3 coordinates",
        ),
        "a release of a later round": ([started, Released(_ref(task), 1, RELEASE)], "round 1"),
        "an end of another session": ([started, asked, replace(finished, ref=other)], "does not take part"),
        "a release nobody opened": (
            [started, asked, replace(finished, last=replace(RELEASE, values=np.arange(4) + 1))],
            "party-1 released something else",
        ),
        "other owners than were summed": (
            [started, Released(_ref(task), 0, replace(RELEASE, owners=OwnerSet.of([0, 1]))), asked],
            "round 0",
        ),
        "a task it does not hold": ([SessionStarted(SessionRef(task_digest=bytes(32), session=bytes(32)))], "task"),
    }


@pytest.mark.parametrize("case", list(_scripts(make_task(RECORDS, features=3))))
def test_it_refuses(tmp_path: Path, task: Task, case: str) -> None:
    events, words = _scripts(task)[case]
    with pytest.raises(ProtocolError, match=words):
        _run(tmp_path, task, events)
    assert not (tmp_path / "model.json").exists()


def test_it_never_uploads_twice_for_a_round(tmp_path: Path, task: Task) -> None:
    started, asked, finished = _good(task)
    script = _run(tmp_path, task, [started, asked, started, asked, finished])
    assert len(script.uploads) == 1


def test_it_is_left_out_of_a_round_that_it_misses_and_goes_on(tmp_path: Path, task: Task) -> None:
    others = replace(RELEASE, owners=OwnerSet.of([0, 1]))
    script = _run(tmp_path, task, _good(task), opened=others, late=True)
    assert script.uploads == []
    assert (tmp_path / "model.json").exists()


def test_an_upload_names_the_releases_it_was_computed_after(tmp_path: Path, task: Task) -> None:
    script = _run(tmp_path, task, _good(task))
    assert [upload.history for upload in script.uploads] == [History(_ref(task), make_plan(task).digest).digest]


class _Unsteady(_Script):
    """A coordinator whose connection breaks once, after a number of events, and that tells everything again."""

    breaks_after = 2

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        for number, event in enumerate(self._events):
            if number == self.breaks_after:
                self.breaks_after = -1
                raise PeerUnavailable("coordinator", "the connection broke")
            yield event


@pytest.mark.parametrize("after", [0, 1, 2])
def test_it_returns_after_a_broken_connection(tmp_path: Path, task: Task, after: int) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        script = _Unsteady(_good(task), ledger, _outcome(task, RELEASE))
        script.breaks_after = after
        network: Any = script
        dataset = make_dataset(task, "owner-1", seed=1)
        Owner("owner-1", task, make_plan(task), dataset, network, ledger, tmp_path).run()
        assert ledger.total() == make_plan(task).cost
    assert len(script.uploads) == 1
    assert len({enrolment.key for enrolment in script.enrolments}) == 3  # two keys, and none for the last party


class _Killed(_Script):
    """A network on which the owner's process dies at a number of uploads, before or after they are sent."""

    dies_before = dies_after = -1

    def upload(self, caller: str, upload: Upload) -> None:
        if len(self.uploads) == self.dies_before:
            raise _Death
        super().upload(caller, upload)
        if len(self.uploads) == self.dies_after:
            raise _Death


class _Death(Exception):
    """The process is gone."""


@pytest.mark.parametrize("moment", ["dies_before", "dies_after"])
def test_a_process_that_comes_back_sends_the_same_bytes_and_pays_once(tmp_path: Path, task: Task, moment: str) -> None:
    scripts = []
    for life in range(2):
        with Ledger(tmp_path / "ledger.db") as ledger:
            script = _Killed(_good(task), ledger, _outcome(task, RELEASE))
            scripts.append(script)
            if life == 0:
                setattr(script, moment, int(moment == "dies_after"))
            network: Any = script
            owner = Owner(
                "owner-1", task, make_plan(task), make_dataset(task, "owner-1", seed=1), network, ledger, tmp_path
            )
            with pytest.raises(_Death) if life == 0 else nullcontext():
                owner.run()
            assert ledger.total() == make_plan(task).cost
    first, second = scripts
    assert first.enrolments == second.enrolments
    if first.uploads:
        assert first.uploads[0].nonce == second.uploads[0].nonce
        np.testing.assert_array_equal(first.uploads[0].values, second.uploads[0].values)
    assert list(tmp_path.glob("*.secret")) == []  # nothing is kept of a session that is over


def test_a_process_that_comes_back_takes_part_in_no_other_session(tmp_path: Path, task: Task) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        script = _Killed(_good(task), ledger, _outcome(task, RELEASE))
        script.dies_before = 0
        network: Any = script
        dataset = make_dataset(task, "owner-1", seed=1)
        with pytest.raises(_Death):
            Owner("owner-1", task, make_plan(task), dataset, network, ledger, tmp_path).run()
        script = _Killed([SessionStarted(_ref(task, b"o"))], ledger, _outcome(task, RELEASE))
        network = script
        with pytest.raises(BudgetError, match="runs once"):
            Owner("owner-1", task, make_plan(task), dataset, network, ledger, tmp_path).run()
        assert script.enrolments == []


@pytest.mark.parametrize("content", [b"", bytes(31)])
def test_a_damaged_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    secret = OwnerSecret(tmp_path, bytes(32))
    assert not secret.kept
    (path,) = tmp_path.glob("*.secret")
    assert path.stat().st_mode & 0o777 == 0o600
    assert OwnerSecret(tmp_path, bytes(32)).kept
    assert OwnerSecret(tmp_path, bytes(32)).nonce_key == secret.nonce_key
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        OwnerSecret(tmp_path, bytes(32))


def test_it_reports_an_end_without_a_model(tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SessionAborted, match="coordinator ended the session: why"):
        _run(tmp_path / "a", task, [Aborted("why")])
    monkeypatch.setattr("mpcdp.roles.owner.waiting_seconds", lambda task: 0.3)
    with pytest.raises(PeerUnavailable, match="coordinator"):
        _run(tmp_path / "b", task, [])


def test_a_coordinator_that_was_waited_for_in_vain_ends_it_at_once(tmp_path: Path, task: Task) -> None:
    class Gone(_Script):
        def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
            raise PeerUnavailable("coordinator", "cannot be reached within 20 s", final=True)

    with Ledger(tmp_path / "ledger.db") as ledger:
        owner = _attending(tmp_path, task, Gone([], ledger, _outcome(task, RELEASE)), ledger)
        with pytest.raises(PeerUnavailable, match="within 20 s"):
            owner.run()
        assert ledger.entries() == ()


class _Collector(_Script):
    """A last party that dies at some uploads, before or after it has bound the round, and is back for the next call."""

    breaks = 0
    dies = False

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        yield from self._events
        if self.dies:
            raise _Death

    def upload(self, caller: str, upload: Upload) -> None:
        super().upload(caller, upload)
        if len(self.uploads) <= self.breaks:
            raise PeerUnavailable("party-3", "the connection broke")


def _attending(folder: Path, task: Task, script: _Script, ledger: Ledger) -> Owner:
    network: Any = script
    dataset = make_dataset(task, "owner-1", seed=1)
    return Owner("owner-1", task, make_plan(task), dataset, network, ledger, folder)


def test_an_upload_without_an_answer_is_sent_again_as_it_was(tmp_path: Path, task: Task) -> None:
    with Ledger(tmp_path / "ledger.db") as ledger:
        script = _Collector(_good(task), ledger, _outcome(task, RELEASE))
        script.breaks = 2
        _attending(tmp_path, task, script, ledger).run()
    assert len({upload.nonce for upload in script.uploads}) == 1
    assert len(script.uploads) == 3
    for upload in script.uploads[1:]:
        np.testing.assert_array_equal(upload.values, script.uploads[0].values)


@pytest.mark.parametrize("late", [False, True])
def test_an_answered_upload_is_never_sent_again_not_even_by_another_process(
    tmp_path: Path, task: Task, late: bool
) -> None:
    """So parties that are all restored from copies older than the round get it from nobody."""
    started, asked, finished = _good(task)
    uploads = []
    for events in ([started, asked], [started, asked, asked], [started, asked, finished]):
        with Ledger(tmp_path / "ledger.db") as ledger:
            script = _Collector(events, ledger, _outcome(task, RELEASE), late=late)
            owner = _attending(tmp_path, task, script, ledger)
            if finished not in events:
                script.dies = True
                with pytest.raises(_Death):
                    owner.run()
            else:
                owner.run()
            uploads.append(len(script.uploads))
    assert uploads == ([0, 0, 0] if late else [1, 0, 0])
    assert list(tmp_path.glob("*.answered")) == []


def test_a_process_that_comes_back_after_the_end_has_nothing_left_to_do(tmp_path: Path, task: Task) -> None:
    first = _run(tmp_path, task, _good(task))
    second = _run(tmp_path, task, [])
    assert (first.left, second.left) == (1, 0)
    assert (second.enrolments, second.uploads) == ([], [])
    assert list(tmp_path.glob("*.secret")) == []
