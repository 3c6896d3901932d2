"""One table's experiments: its records split among owners, its optimum, and the work as stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.losses import LogisticLoss
from mpcdp.reproduce.baselines import Setting
from mpcdp.reproduce.local_training import OwnerTables, minimizers
from mpcdp.reproduce.points import Point, seed_of
from mpcdp.reproduce.risk import LOGISTIC, SQUARED, Judge, ScoreLoss
from mpcdp.reproduce.settings import LEARNING_RATE, PAPER_ROUNDS, REGULARIZATION, RunSettings
from mpcdp.reproduce.tables import BenchmarkTable

__all__ = ["Advance", "Experiment", "Stage"]

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Stage:
    """A piece of work.

    Args:
        title: for people.
        run: does it and returns its points; told how far it is, from 0 to 1.
    """

    title: str
    run: Callable[[Advance], Sequence[Point]]


@dataclass(frozen=True, eq=False)
class Experiment:
    """One table's experiments.

    Args:
        table: data.
        settings: how much is run.
    """

    table: BenchmarkTable
    settings: RunSettings

    @property
    def loss(self) -> ScoreLoss:
        """Return the loss of a record."""
        return SQUARED if self.table.regression else LOGISTIC

    @cached_property
    def judge(self) -> Judge:
        """Return what measures models, with the optimum of the common objective."""
        return Judge(
            training=self.table.training,
            test=self.table.test,
            loss=self.loss,
            regularization=REGULARIZATION,
            optimum=self._optimum(),
        )

    def split(self, owners: int) -> OwnerTables:
        """Return the training records dealt out to owners."""
        return _split(self, owners)

    def owner_counts(self, asked: Sequence[int]) -> tuple[int, ...]:
        """Return numbers of owners that the table has records for."""
        return tuple(dict.fromkeys(min(count, self.table.training.record_count) for count in asked))

    def setting(self, owners: int, *, epsilon: float, delta: float, rounds: int = PAPER_ROUNDS) -> Setting:
        """Return a point of the experiments."""
        return Setting(
            owners=owners,
            record_count=self.table.training.record_count,
            smallest_count=int(self.split(owners).counts.min()),
            dimension=self.table.training.dimension,
            epsilon=epsilon,
            delta=delta,
            regularization=REGULARIZATION,
            rounds=rounds,
            learning_rate=LEARNING_RATE,
            curvature=self.loss.largest_curvature,
        )

    def rng(self, *names: object) -> np.random.Generator:
        """Return a generator for one purpose."""
        return np.random.default_rng(seed_of(self.settings.seed, self.table.name, *names))

    def mean_of_minimizers(self, owners: int) -> NDArray[np.float64]:
        """Return the unweighted mean of the owners' exact local models, shape (d,)."""
        tables = self.split(owners)
        total = np.zeros(tables.dimension)
        for _, models in minimizers(tables, loss=self.loss, regularization=REGULARIZATION):
            total += models[:, 0].sum(axis=0)
        return total / owners

    def where(self, figure: str, owners: int, epsilon: float, delta: float) -> dict[str, Any]:
        """Return the fields of a point that say where it is."""
        return {"table": self.table.name, "figure": figure, "owners": owners, "epsilon": epsilon, "delta": delta}

    def _optimum(self) -> NDArray[np.float64]:
        training = self.table.training
        if not self.table.regression:
            solver = CertifiedSolver(loss=LogisticLoss(), regularization=REGULARIZATION, certificate=1e-8)
            return solver.solve(training)
        matrix = training.features.T @ training.features / training.record_count
        matrix += REGULARIZATION * np.eye(training.dimension)
        return np.asarray(np.linalg.solve(matrix, training.features.T @ training.labels / training.record_count))


@lru_cache(maxsize=2)
def _split(experiment: Experiment, owners: int) -> OwnerTables:
    return OwnerTables.split(experiment.table.training, owners)
