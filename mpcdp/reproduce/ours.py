"""Our methods on a public table: a session's task, plan, encoding and noise, with the owners' part done in batches.

`mpcdp.simulation.simulate` asks every owner for its contribution in every round, which takes hours for 50,000 owners.
Here the same contributions are computed together, and the runs of a setting side by side:

* Output perturbation: all owners' models by `minimizers`, checked against the task's certificate, weighted, encoded
  and added up owner by owner. The sum is the same in every run; only the noise is drawn anew.
* Gradient perturbation: the records' clipped gradients are added up over all owners before they are encoded, not after.
  That leaves out the owners' rounding, at most half a ring unit each, under noise of 2^20 units. Records that occur
  several times (three in five of KDDCup99) are computed once, with a weight.

Sensitivity, noise, encoding and the way from a release to the next model are the plan's and the method's own.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.gradient_perturbation import GradientPerturbation
from mpcdp.learning.linear import LinearModel
from mpcdp.learning.output_perturbation import OutputPerturbation
from mpcdp.plan import Plan, make_plan
from mpcdp.reproduce.local_training import OwnerTables, minimizers
from mpcdp.reproduce.risk import LOGISTIC
from mpcdp.reproduce.tables import BenchmarkTable
from mpcdp.secret_sharing.fixed_point import Encoding
from mpcdp.secret_sharing.shares import SharedVector
from mpcdp.simulation import release
from mpcdp.task import Task
from mpcdp.task.sections import Owner

__all__ = [
    "CERTIFICATE",
    "clipped_sums",
    "gradient_sections",
    "make_task",
    "output_sections",
    "statistics_sections",
    "task_document",
    "train_by_gradients",
    "train_by_output",
]

_Array = NDArray[np.float64]
_BLOCK = 2048  # rows whose scores are in the processor's cache at a time

CERTIFICATE = 1e-8
"""tau of output perturbation: what it adds to the noise is below a thousandth for 50,000 records."""


def task_document(
    table: BenchmarkTable, counts: Sequence[int], *, epsilon: float, delta: float, **sections: Any
) -> dict[str, Any]:
    """Return a task as TOML has it.

    Args:
        table: whose schema it is.
        counts: n_j of every owner.
        epsilon: asked for.
        delta: asked for.
        sections: ``method`` and ``model``; ``privacy`` extends or replaces its defaults.
    """
    privacy = {"epsilon": epsilon, "delta": delta, "mechanism": "gaussian", "noise": "joint"}
    return {
        "task": {"version": 1, "name": f"reproduce-{table.name}"},
        "privacy": {**privacy, **sections.pop("privacy", {})},
        "schema": table.schema.model_dump(mode="json"),
        "deadlines": {"start_seconds": 3600.0},
        "coordinator": {"name": "coordinator"},
        "dealer": {"name": "dealer"},
        "compute_parties": [{"name": "compute-1"}, {"name": "compute-2"}],
        "owners": [{"name": f"owner-{index}", "record_count": count} for index, count in enumerate(counts)],
        **sections,
    }


def make_task(table: BenchmarkTable, owners: int, *, epsilon: float, delta: float, **sections: Any) -> Task:
    """Make a task whose owners have the table's training records between them, dealt out evenly.

    A real task refuses owners of a single record; the paper's m = 50,000 has nothing else, so here they are let in.
    """
    counts = [len(part) for part in np.array_split(np.arange(table.training.record_count), owners)]
    if min(counts) > 1:
        return Task.model_validate(task_document(table, counts, epsilon=epsilon, delta=delta, **sections))
    pair = Task.model_validate(task_document(table, [2, 2], epsilon=epsilon, delta=delta, **sections))
    entries = tuple(
        Owner.model_construct(name=f"owner-{index}", certificate=f"owner-{index}", record_count=count)
        for index, count in enumerate(counts)
    )
    session = pair.session.model_copy(update={"minimum_owners": owners})
    return pair.model_copy(update={"owners": entries, "session": session})


def train_by_output(
    task: Task,
    owners: OwnerTables,
    *,
    runs: int,
    noise: bool = True,
    every_owner: np.random.Generator | None = None,
) -> _Array:
    """Simulate sessions of output perturbation.

    Args:
        task: of logistic regression.
        owners: the records, split as the task says.
        runs: R.
        noise: False leaves the noise out.
        every_owner: when given, every owner adds the whole noise itself: m copies instead of one, the others from here.

    Returns:
        The released models, shape (R, d).
    """
    plan, method = make_plan(task), task.method()
    assert isinstance(method, OutputPerturbation)  # noqa: S101 (narrows the type)
    solver = CertifiedSolver(loss=method.loss, regularization=method.regularization, certificate=method.certificate)
    total = np.zeros(method.dimension, dtype=np.int64)
    target = _target(solver, owners)
    trained = minimizers(owners, loss=LOGISTIC, regularization=solver.regularization, tolerance=target / 2)
    for chunk, models in trained:
        _check_certificates(solver, owners, chunk, models[:, 0], target)
        total += plan.encoding.encode(models[:, 0] * owners.counts[chunk, np.newaxis]).sum(axis=0)
    records = int(owners.counts.sum())
    if not noise:
        return np.tile(plan.encoding.decode(total) / records, (runs, 1))
    released = release(plan, SharedVector(np.tile(total, runs))).reshape(runs, method.dimension)
    released += _other_copies(plan, released.shape, every_owner)
    start = method.initial_state()
    return np.stack(
        [
            method.next_state(start, one, record_count=records, noise_deviation=plan.noise_deviation).model
            for one in released
        ]
    )


def _target(solver: CertifiedSolver, owners: OwnerTables) -> float:
    """Return what every owner's computed gradient has to reach for the certificate to hold."""
    error = solver.gradient_error(record_count=int(owners.counts.max()), dimension=owners.dimension)
    return solver.certificate - error


def _check_certificates(
    solver: CertifiedSolver, owners: OwnerTables, chunk: slice, models: _Array, target: float
) -> None:
    """Hold the models to what a real owner's are held to.

    Raises:
        ArithmeticError: one of them is not certified.
    """
    rows, labels, counts = owners.rows[chunk], owners.labels[chunk], owners.counts[chunk]
    slopes = LOGISTIC.slope((rows @ models[..., np.newaxis])[..., 0], labels)
    gradients = (slopes[:, np.newaxis] @ rows)[:, 0] / counts[:, np.newaxis] + solver.regularization * models
    worst = float(np.linalg.norm(gradients, axis=1).max())
    if worst > target or np.linalg.norm(models, axis=1).max() > solver.radius:
        raise ArithmeticError(f"a local model's gradient is {worst:.2g} long, above the certificate's {target:.2g}")


def train_by_gradients(
    task: Task,
    dataset: Dataset,
    *,
    runs: int,
    noise: bool = True,
    every_owner: np.random.Generator | None = None,
    follow: Callable[[int, _Array], None] = lambda round_index, models: None,
) -> _Array:
    """Simulate sessions of gradient perturbation side by side.

    Args:
        task: of a linear model with one score.
        dataset: the records of all owners.
        runs: R.
        noise: False leaves the noise out.
        every_owner: when given, every owner adds the whole noise itself: m copies instead of one, the others from here.
        follow: called after every round with its number from 1 and the models so far, shape (R, d).

    Returns:
        The released models, shape (R, d).
    """
    plan, method = make_plan(task), task.method()
    assert isinstance(method, GradientPerturbation)  # noqa: S101 (narrows the type)
    assert isinstance(method.model, LinearModel)  # noqa: S101 (narrows the type)
    # The sum of all owners needs m times an owner's range.
    encoding = Encoding(scale=plan.encoding.scale, bound=plan.encoding.bound * len(task.owners))
    states = [method.initial_state()] * runs
    for round_index in range(1, method.rounds + 1):
        points = np.stack([state.point for state in states])
        sums = clipped_sums(method.model, dataset, points, clipping_norm=method.clipping_norm)
        encoded = SharedVector(encoding.encode(sums.reshape(-1)))
        released = release(plan, encoded) if noise else encoding.decode(encoded.values)
        released = released + _other_copies(plan, released.shape, every_owner)
        states = [
            method.next_state(
                state, one, record_count=dataset.record_count, noise_deviation=plan.noise_deviation if noise else 0.0
            )
            for state, one in zip(states, released.reshape(runs, -1), strict=True)
        ]
        follow(round_index, np.stack([state.model for state in states]))
    return np.stack([state.model for state in states])


def _other_copies(plan: Plan, shape: tuple[int, ...], rng: np.random.Generator | None) -> _Array:
    """Draw the sum of m - 1 further copies of Gaussian noise, which is one of a larger deviation."""
    if rng is None:
        return np.zeros(shape)
    return rng.normal(0.0, math.sqrt(len(plan.record_counts) - 1) * plan.noise_deviation, shape)


def clipped_sums(model: LinearModel, dataset: Dataset, points: _Array, *, clipping_norm: float) -> _Array:
    """Add up all records' clipped gradients at several points: `LinearModel.clipped_sum` for each of them, together.

    Args:
        model: of one score.
        dataset: n records of dimension d.
        points: shape (R, d).
        clipping_norm: C.

    Returns:
        Shape (R, d).
    """
    features, labels, weights = _distinct(dataset)
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features))
    with np.errstate(divide="ignore"):
        most = (clipping_norm / lengths)[:, np.newaxis]
    total = np.zeros_like(points)
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = features[block]
        residuals = model.kind.residuals(rows @ points.T, labels[block])
        # A record has one residual a and the gradient a x: clipping it to C means |a| <= C / ||x||.
        total += (np.clip(residuals, -most[block], most[block]) * weights[block]).T @ rows
    return total


@lru_cache(maxsize=2)
def _distinct(dataset: Dataset) -> tuple[_Array, _Array, _Array]:
    """Return the distinct records' features, labels, and how often each occurs, shape (u, 1)."""
    together = np.column_stack([dataset.features, dataset.labels])
    found, counts = np.unique(together, axis=0, return_counts=True)
    return np.ascontiguousarray(found[:, :-1]), found[:, -1].copy(), counts[:, np.newaxis].astype(np.float64)


def output_sections(regularization: float, *, mechanism: str = "gaussian") -> Mapping[str, Any]:
    """Return a task's sections for logistic regression by output perturbation."""
    return {
        "method": {"kind": "output-perturbation"},
        "model": {"kind": "logistic-regression", "regularization": regularization, "certificate": CERTIFICATE},
        "privacy": {"mechanism": mechanism},
    }


def gradient_sections(regularization: float, *, regression: bool) -> Mapping[str, Any]:
    """Return a task's sections for a linear model by gradient perturbation, all settings left to the rules."""
    kind = "ridge-regression" if regression else "logistic-regression"
    return {
        "method": {"kind": "gradient-perturbation"},
        "model": {"kind": kind, "regularization": regularization},
    }


def statistics_sections() -> Mapping[str, Any]:
    """Return a task's sections for linear regression from one noised release of sums."""
    return {"method": {"kind": "statistics"}, "model": {"kind": "ridge-regression"}}
