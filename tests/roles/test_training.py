"""Following a session's releases: what the model is computed from, when the owners of the rounds differ."""

from typing import Any

import numpy as np
import pytest
from session_world import make_task

from mpcdp.errors import ProtocolError
from mpcdp.learning.method import TrainingState
from mpcdp.plan import make_plan
from mpcdp.roles.training import Training
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.task import Task
from mpcdp.transport.messages import Release, SessionRef

RECORDS = {"owner-1": 20, "owner-2": 35, "owner-3": 70}


def test_every_round_counts_the_records_of_its_own_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    document = make_task(RECORDS, features=3, minimum=2).model_dump(mode="json", by_alias=True)
    del document["model"]["certificate"]
    document["method"] = {"kind": "gradient-perturbation", "rounds": 5, "clipping_norm": 1.0, "learning_rate": 0.1}
    task = Task.model_validate(document)
    training = Training(task, make_plan(task), SessionRef(task_digest=task.digest, session=bytes(32)), source="it")
    counts: list[int] = []
    method: Any = type(task.method())

    def note(self: object, state: TrainingState, release_sum: object, *, record_count: int, **_: float) -> object:
        counts.append(record_count)
        return state

    monkeypatch.setattr(method, "next_state", note)
    for owners in ([0, 1, 2], [0, 1], [0, 1], [1, 2], [0, 1, 2]):
        with pytest.raises(ProtocolError, match="does not allow"):  # and what is refused changes no later count
            training.follow(training.history.rounds, Release(values=np.zeros(4, np.int64), owners=OwnerSet.of([2])))
        training.follow(training.history.rounds, Release(values=np.zeros(4, np.int64), owners=OwnerSet.of(owners)))
    assert counts == [125, 55, 55, 105, 125]
