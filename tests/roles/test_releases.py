"""Following a session from beside its coordinator: what is released is told, and how a session ended."""

from pathlib import Path

import numpy as np
import pytest

from mpcdp.errors import SessionAborted
from mpcdp.plan import make_plan
from mpcdp.roles.coordinator_journal import CoordinatorJournal
from mpcdp.roles.releases import SessionReleases
from mpcdp.roles.session import new_session
from mpcdp.roles.training import Training
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import load_task
from mpcdp.transport.messages import Release, SessionRef

TASK = load_task(Path(__file__).parents[2] / "parties" / "task-updates.toml")
PLAN = make_plan(TASK)


def _release(value: int) -> Release:
    return Release(values=np.full(PLAN.dimension, value, dtype=np.int64), owners=OwnerSet.of(range(3)))


def _mean(*values: int) -> float:
    return sum((value + PLAN.decode_offset) / PLAN.encoding.scale / 3 for value in values)


def _started(folder: Path) -> SessionRef:
    ref = new_session(TASK)
    with CoordinatorJournal(folder) as journal:
        journal.open_session(ref)
        journal.start(ref)
    return ref


def _record(folder: Path, ref: SessionRef, round_index: int, value: int) -> None:
    with CoordinatorJournal(folder) as journal:
        journal.record_release(ref, round_index, _release(value))


def _follower(folder: Path, **arguments: object) -> SessionReleases:
    return SessionReleases(TASK, PLAN, folder, **arguments)  # type: ignore[arg-type]


def test_a_release_is_waited_for_and_added_to_those_before(tmp_path: Path) -> None:
    steps: list[SessionRef] = []

    def pause(seconds: float) -> None:  # the coordinator's life, step by step
        if not steps:
            steps.append(_started(tmp_path))
        else:
            _record(tmp_path, steps[0], len(steps) - 1, 6 * 10**8 * len(steps))
            steps.append(steps[0])

    releases = _follower(tmp_path, pause=pause)
    np.testing.assert_allclose(releases.model_after(1), _mean(6 * 10**8))
    np.testing.assert_allclose(releases.model_after(2), _mean(6 * 10**8, 12 * 10**8))
    assert not releases.over


def test_the_last_release_is_in_the_model_that_outlives_the_session(tmp_path: Path) -> None:
    ref = _started(tmp_path)
    training = Training(TASK, PLAN, ref, source="coordinator")
    for round_index in range(PLAN.rounds):
        training.follow(round_index, _release(3 * 10**8))
    training.model().save(tmp_path / "model.json")
    with CoordinatorJournal(tmp_path) as journal:
        journal.end(ref, None)
    releases = _follower(tmp_path)
    assert releases.over
    np.testing.assert_allclose(releases.model_after(PLAN.rounds), _mean(*[3 * 10**8] * PLAN.rounds))
    with pytest.raises(SessionAborted, match="run once, give it a new name"):
        _follower(tmp_path).model_after(1)


@pytest.mark.parametrize("rounds", [1, PLAN.rounds])
def test_a_session_that_failed_says_why(tmp_path: Path, rounds: int) -> None:
    ref = _started(tmp_path)
    with CoordinatorJournal(tmp_path) as journal:
        journal.end(ref, "hospital-1 left")
    with pytest.raises(SessionAborted, match="hospital-1 left"):
        _follower(tmp_path).model_after(rounds)
