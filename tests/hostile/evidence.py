"""What must be true of a network's state folders and of what its parties did, whatever happened to them."""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from witness import Testimony, check_testimonies, opened_owners

from mpcdp.data.dataset import Dataset
from mpcdp.learning.model import TrainedModel
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Charge, Ledger, NoiseRecord, ReleaseRecord
from mpcdp.secret_sharing.shares import RingVector
from mpcdp.task import Task

__all__ = ["charged", "check_evidence", "model_in_the_clear", "models", "session_in_the_clear"]


def model_in_the_clear(task: Task, datasets: Mapping[str, Dataset]) -> NDArray[np.float64]:
    """Return the model of a session in which every owner takes part and all noise is zero, to the last bit."""
    return session_in_the_clear(task, datasets)[1]


def session_in_the_clear(
    task: Task, datasets: Mapping[str, Dataset], noise: Callable[[int], RingVector] | None = None
) -> tuple[list[RingVector], NDArray[np.float64]]:
    """Return what a session releases in which every owner takes part, and its model, to the last bit.

    Args:
        task: of the session.
        datasets: the owners' records.
        noise: of each round; zero by default.
    """
    plan, method = make_plan(task), task.method()
    state, releases = method.initial_state(), []
    for index in range(plan.rounds):
        units = [plan.encoding.encode(method.contribution(each, state, key=bytes(32))) for each in datasets.values()]
        releases.append(np.sum(units, axis=0) + (0 if noise is None else noise(index)))
        state = method.next_state(
            state,
            plan.decode(releases[-1]),
            record_count=sum(dataset.record_count for dataset in datasets.values()),
            noise_deviation=plan.noise_deviation,
        )
    return releases, state.model


def models(states: Mapping[str, Path]) -> dict[str, TrainedModel]:
    """Return the models that processes have written."""
    return {
        name: TrainedModel.load(state / "model.json")
        for name, state in states.items()
        if (state / "model.json").exists()
    }


def charged(state: Path) -> bool:
    """Tell whether an owner's ledger was charged for a session."""
    with Ledger(state / "ledger.db") as ledger:
        return any(isinstance(entry, Charge) for entry in ledger.entries())


def check_evidence(
    task: Task, states: Mapping[str, Path], testimonies: Sequence[Testimony], *, restored: Sequence[str] = ()
) -> None:
    """Check that nothing was opened twice, that noise ranges are disjoint and that every release was paid for.

    Args:
        task: of the session.
        states: state folders of all processes by name.
        testimonies: of the compute parties, see `witness`.
        restored: who got an older copy of its state: its own folder proves nothing any more.

    Raises:
        AssertionError: what is wrong.
    """
    check_testimonies(task, testimonies, restored=bool(restored))
    _check_ranges({party.name: states[party.name] for party in task.compute_parties})
    plan, found = make_plan(task), models(states)
    assert len(set(found.values())) <= 1, "there are different models"
    owners = opened_owners(task, testimonies)
    for session, names in owners.items():
        for owner in names - set(restored):
            _check_charge(task, owner, states[owner], bytes.fromhex(session))
    opened = {each.digest for each in testimonies if each.kind == "released"}
    assert not found or len(opened) == plan.rounds, f"there is a model of {len(opened)} releases"
    for name in found.keys() - {task.coordinator.name, *restored}:
        with Ledger(states[name] / "ledger.db") as ledger:
            noted = [entry.round_index for entry in ledger.entries() if isinstance(entry, ReleaseRecord)]
        assert noted == list(range(plan.rounds)), f"{name} has noted the releases {noted}"


def _check_ranges(states: Mapping[str, Path]) -> None:
    ranges: dict[bytes, set[tuple[bytes, int, int]]] = {}
    for party, state in states.items():
        for path in (state / "noise").glob("*/bank.db"):
            ((bank,),) = _read(path, "SELECT bank FROM pool")
            own = _read(path, "SELECT session, start, start + count FROM reservation ORDER BY start")
            for (_, _, end), (_, start, _) in combinations(own, 2):
                assert end <= start, f"{party}: noise ranges overlap"
            for session, start, end in own:
                ranges.setdefault(session, set()).add((bank, start, end))
    for session, found in ranges.items():
        assert len(found) == 1, f"the parties have different noise for session {session.hex()[:8]}"


def _check_charge(task: Task, owner: str, state: Path, session: bytes) -> None:
    with Ledger(state / "ledger.db") as ledger:
        ledger.verify()
        charges = [entry for entry in ledger.entries() if isinstance(entry, Charge)]
        noise = [entry for entry in ledger.entries() if isinstance(entry, NoiseRecord)]
    assert [entry.session for entry in charges] == [session], f"{owner} was not charged for what was opened"
    assert charges[0].cost == make_plan(task).cost
    assert len(noise) == (task.dealer is not None), f"{owner} has not noted which noise was used"


def _read(path: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()
