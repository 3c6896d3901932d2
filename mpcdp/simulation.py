"""A task's learning in one process, in the clear: same plan, same encoding, same noise law, no parties.

For accuracy studies and as the oracle that real runs are compared with. Nothing here protects anything: all tables are
in one place.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.errors import ConfigError
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.mpc.noise_bank import PerPartyNoise
from mpcdp.plan import Plan, make_plan
from mpcdp.secret_sharing.randomness import random_key
from mpcdp.secret_sharing.shares import NoisedVector, SharedVector
from mpcdp.task import Task

__all__ = ["per_owner_noise", "pooled_without_privacy", "release", "simulate", "single_owner"]


def simulate(task: Task, datasets: Mapping[str, Dataset], *, noise: bool = True) -> NDArray[np.float64]:
    """Run a task's session in the clear.

    Args:
        task: what would have been agreed.
        datasets: each owner's records; the owners of the session.
        noise: False replaces the noise by zeros at an unchanged encoding, which is what a run without privacy gives.

    Returns:
        The model, shape (p,).
    """
    plan = make_plan(task)
    method = task.method()
    state = method.initial_state()
    count = sum(task.owner(name).record_count for name in datasets)
    for _ in range(plan.rounds):
        encoded = [
            SharedVector(plan.encoding.encode(method.contribution(dataset, state, key=random_key())))
            for dataset in datasets.values()
        ]
        total = SharedVector.total(encoded, dimension=plan.dimension)
        released = release(plan, total) if noise else plan.encoding.decode(total.values)
        deviation = plan.noise_deviation if noise else 0.0
        state = method.next_state(state, released, record_count=count, noise_deviation=deviation)
    return state.model


def release(plan: Plan, total: SharedVector) -> NDArray[np.float64]:
    """Noise a sum of encoded contributions as a session does, and decode it.

    Args:
        plan: the session's.
        total: of d coordinates, or of several independent sessions one after the other.

    Returns:
        Real units, of the same shape.
    """
    for _ in range(plan.noise_copies):
        noise_share = PerPartyNoise(plan.noise, dimension=total.dimension, rounds=1).take(0)
        total = SharedVector(NoisedVector.add(total, noise_share).values)
    return plan.decode(total.values)


def pooled_without_privacy(task: Task, datasets: Sequence[Dataset]) -> NDArray[np.float64]:
    """Minimise the task's objective over all tables together, without noise: what pooling would give, shape (d,)."""
    pooled = Dataset(
        features=np.concatenate([dataset.features for dataset in datasets]),
        labels=np.concatenate([dataset.labels for dataset in datasets]),
    )
    regularization, certificate = task.model.regularization, task.model.certificate
    if regularization is None or certificate is None:
        raise ConfigError("method.kind: the pooled minimum is that of a task of output perturbation")
    return CertifiedSolver(loss=task.loss(), regularization=regularization, certificate=certificate).solve(pooled)


def single_owner(task: Task, owner: str, dataset: Dataset) -> NDArray[np.float64]:
    """Train on one owner's table alone, under the same (epsilon, delta), shape (d,)."""
    entry = task.owner(owner)
    alone = task.model_copy(
        update={"owners": (entry,), "session": task.session.model_copy(update={"minimum_owners": 1})}
    )
    return simulate(alone, {owner: dataset})


def per_owner_noise(task: Task, datasets: Mapping[str, Dataset]) -> NDArray[np.float64]:
    """Let every owner add the whole noise to its own contribution before anybody adds up, shape (d,).

    What owners do who trust no secure computation: m copies of the noise instead of one.
    """
    counts = np.array([task.owner(name).record_count for name in datasets], dtype=np.float64)
    models = [single_owner(task, name, dataset) for name, dataset in datasets.items()]
    return np.average(models, axis=0, weights=counts)
