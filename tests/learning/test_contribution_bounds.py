"""No table makes an honest owner fail the contribution check, whatever the method; a longer vector does."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neighbours import hard_replacements
from numpy.typing import NDArray
from test_contribution_check import passes

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.learning.method import TrainingState
from mpcdp.plan import Plan, make_plan
from mpcdp.task import Task

_PARTIES = Path(__file__).parents[2] / "parties"
_COUNTS = (400, 40, 2)
_KEY = bytes(32)


def _task(sample: str) -> Task:
    document: dict[str, Any] = copy.deepcopy(tomllib.loads((_PARTIES / sample).read_text(encoding="utf-8")))
    document["session"] = {"contribution_check": True}
    for owner, count in zip(document["owners"], _COUNTS, strict=True):
        owner["record_count"] = count
    return Task.model_validate(document)


def _longest(task: Task, record_count: int) -> Dataset:
    """Every record is the same and pulls as hard as it can: on the unit sphere, on the wrong side of a zero model."""
    row = np.zeros(task.schema_.dimension)
    row[0] = 1.0
    return Dataset(clip_rows(np.tile(row, (record_count, 1))), np.ones(record_count))


def _tables(task: Task, record_count: int) -> dict[str, Dataset]:
    generator, d = np.random.default_rng(record_count), task.schema_.dimension
    ordinary = Dataset(
        clip_rows(generator.normal(size=(record_count, d))), np.where(generator.random(record_count) < 0.5, -1.0, 1.0)
    )
    tables = {
        "all the same": _longest(task, record_count),
        "ordinary": ordinary,
        "zeros": Dataset(np.zeros((record_count, d)), np.ones(record_count)),
        "mixed labels": Dataset(_longest(task, record_count).features, np.resize([1.0, -1.0], record_count)),
    }
    pairs = hard_replacements(ordinary, generator.normal(size=d), ordinary, generator)
    for number, (table, neighbour) in enumerate(pairs):
        tables[f"pair {number}"], tables[f"neighbour {number}"] = table, neighbour
    return tables


def _contributions(task: Task, record_count: int) -> dict[str, NDArray[np.float64]]:
    method = task.method()
    first = method.initial_state()
    states = [first]
    if method.rounds > 1:  # a model that is as wrong as can be: every gradient is clipped
        point = np.full(method.parameter_count, -1e6)
        states.append(TrainingState(round_index=1, point=point, model=point, memory=first.memory))
    return {
        f"{name}, state {number}": method.contribution(table, state, key=_KEY)
        for name, table in _tables(task, record_count).items()
        for number, state in enumerate(states)
    }


def _encoded(plan: Plan, vector: NDArray[np.float64]) -> list[int]:
    encoded: list[int] = plan.encoding.encode(vector).tolist()
    return encoded


@pytest.mark.parametrize(
    ("sample", "share"), [("task.toml", 0.2), ("task-gradient.toml", 0.999), ("task-statistics.toml", 0.999)]
)
def test_every_honest_contribution_passes(sample: str, share: float) -> None:
    task = _task(sample)
    plan = make_plan(task)
    check = plan.contribution_check
    assert check is not None
    for position, count in enumerate(_COUNTS):
        longest = 0.0
        for name, vector in _contributions(task, count).items():
            assert passes(check, _encoded(plan, vector), owner=position), name
            longest = max(longest, float(np.linalg.norm(vector)))
        # The tables are hard: the longest of their contributions has at least this share of the bound.
        assert share * task.method().contribution_bound(count) <= longest <= plan.accepted_norms[position]
        just_outside = np.eye(plan.dimension)[0] * plan.accepted_norms[position] * (1 + 1e-6)
        encoded = np.rint(just_outside * plan.encoding.scale).astype(np.int64) + 1
        assert not passes(check, encoded.tolist(), owner=position)


@pytest.mark.parametrize("sample", ["task.toml", "task-gradient.toml", "task-statistics.toml"])
def test_what_is_accepted_is_hardly_longer_than_what_is_honest(sample: str) -> None:
    """Robustness: one bad owner moves the sum of the others by no more than this."""
    task = _task(sample)
    plan = make_plan(task)
    check = plan.contribution_check
    assert check is not None
    for count, accepted in zip(_COUNTS, plan.accepted_norms, strict=True):
        honest = task.method().contribution_bound(count)
        rounding = np.sqrt(plan.dimension) * (1 / 2 + 2 * (2**check.shift - 1)) / plan.encoding.scale
        assert honest <= accepted <= honest * (1 + 2**-20) + rounding
        assert rounding < 0.05 * honest
