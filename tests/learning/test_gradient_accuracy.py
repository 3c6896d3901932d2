"""How good models are that gradient perturbation trains with settings its rules choose from public numbers.

The rules' constants were chosen on KDDCup99 and Adult. California Housing (is a house dearer than the median?) played
no part in that and was looked at once, afterwards.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from benchmark_tables import benchmark_table, part

from mpcdp.data.schema import Schema
from mpcdp.plan import make_plan
from mpcdp.reproduce.tables import BenchmarkTable
from mpcdp.simulation import simulate
from mpcdp.task import Task

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(1200)]

RUNS = 10
FEWER_RUNS = 5
"""Where there are many owners: a run takes longer there."""
OWNERS = 10


def make_task(schema: Schema, records: int, *, epsilon: float, owners: int = OWNERS) -> Task:
    """Return a task whose records are dealt out evenly, and in which nothing is chosen but the budget."""
    counts = [len(part) for part in np.array_split(np.arange(records), owners)]
    document: dict[str, Any] = {
        "task": {"version": 1, "name": "accuracy"},
        "model": {"kind": "logistic-regression", "regularization": 1e-5},
        "method": {"kind": "gradient-perturbation"},
        "privacy": {"epsilon": epsilon, "delta": 1e-6, "mechanism": "gaussian", "noise": "joint"},
        "schema": schema.model_dump(mode="json"),
        "coordinator": {"name": "coordinator"},
        "dealer": {"name": "dealer"},
        "compute_parties": [{"name": "party-1"}, {"name": "party-2"}],
        "owners": [{"name": f"owner-{index}", "record_count": count} for index, count in enumerate(counts)],
    }
    return Task.model_validate(document)


def accuracy(table: BenchmarkTable, *, epsilon: float, owners: int = OWNERS, runs: int = RUNS) -> float:
    """Return the mean accuracy on the test records of models that simulated sessions release."""
    training, test = table.training, table.test
    task = make_task(table.schema, training.record_count, epsilon=epsilon, owners=owners)
    bounds = np.cumsum([0, *task.record_counts])
    shares = {
        owner.name: part(training, int(start), int(stop))
        for owner, start, stop in zip(task.owners, bounds[:-1], bounds[1:], strict=True)
    }
    plan = make_plan(task)
    assert plan.cost.epsilon == epsilon
    assert plan.cost.delta <= 1e-6
    models = [simulate(task, shares) for _ in range(runs)]
    return float(np.mean([np.mean(np.where(test.features @ model > 0, 1.0, -1.0) == test.labels) for model in models]))


@pytest.fixture(name="tables", scope="module")
def _tables() -> Callable[[str], BenchmarkTable]:
    return cache(benchmark_table)


@pytest.mark.parametrize(
    ("table", "epsilon", "least"),
    [
        ("kddcup99", 0.1, 0.983),
        ("kddcup99", 0.5, 0.987),
        ("adult", 0.1, 0.813),
        ("adult", 1.0, 0.836),
        ("housing", 1.0, 0.75),
    ],
)
def test_the_rules_reach(tables: Callable[[str], BenchmarkTable], table: str, epsilon: float, least: float) -> None:
    reached = accuracy(tables(table), epsilon=epsilon)
    assert reached >= least, f"{table} at epsilon {epsilon}: {reached:.4f}"


@pytest.mark.parametrize("owners", [100, 1000])
@pytest.mark.parametrize(("epsilon", "least"), [(0.1, 0.983), (0.5, 0.987)])
def test_the_number_of_owners_does_not_matter(
    tables: Callable[[str], BenchmarkTable], epsilon: float, least: float, owners: int
) -> None:
    """As much is demanded of each number of owners as of ten; the records are the same."""
    reached = accuracy(tables("kddcup99"), epsilon=epsilon, owners=owners, runs=FEWER_RUNS)
    assert reached >= least, f"{owners} owners at epsilon {epsilon}: {reached:.4f}"
