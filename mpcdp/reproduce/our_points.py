"""Points of our methods: valid calibration, simulated as sessions."""

from collections.abc import Mapping

import numpy as np

from mpcdp.data.dataset import Dataset
from mpcdp.reproduce.experiment import Advance, Experiment
from mpcdp.reproduce.ours import (
    gradient_sections,
    make_task,
    output_sections,
    statistics_sections,
    train_by_gradients,
    train_by_output,
)
from mpcdp.reproduce.points import OURS, Point, measure
from mpcdp.reproduce.settings import DELTA, REGULARIZATION
from mpcdp.reproduce.tables import part
from mpcdp.simulation import simulate
from mpcdp.task import Task

__all__ = ["our_points", "owner_shares"]


def our_points(
    experiment: Experiment, owners: int, epsilon: float, *, figure: str, advance: Advance = lambda share: None
) -> list[Point]:
    """Measure our methods in one setting."""
    points = [] if experiment.table.regression else _output(experiment, owners, epsilon, figure)
    if experiment.table.regression and _enough_for_statistics(experiment, owners):
        points.append(_statistics(experiment, owners, epsilon, figure))
    return [*points, *_gradient(experiment, owners, epsilon, figure, advance)]


def _output(experiment: Experiment, owners: int, epsilon: float, figure: str) -> list[Point]:
    points = []
    for key, mechanism in (("our_output", "gaussian"), ("our_laplace_output", "laplace")):
        sections = output_sections(REGULARIZATION, mechanism=mechanism)
        task = make_task(experiment.table, owners, epsilon=epsilon, delta=DELTA, **sections)
        models = train_by_output(task, experiment.split(owners), runs=experiment.settings.runs)
        where = experiment.where(figure, owners, epsilon, DELTA)
        points.append(measure(models, experiment.judge, method=key, calibration=OURS, **where))
    return points


def _gradient(experiment: Experiment, owners: int, epsilon: float, figure: str, advance: Advance) -> list[Point]:
    table = experiment.table
    sections = gradient_sections(REGULARIZATION, regression=table.regression)
    task = make_task(table, owners, epsilon=epsilon, delta=DELTA, **sections)
    where = experiment.where(figure, owners, epsilon, DELTA)
    rounds = task.method().rounds
    noted = set(np.unique(np.geomspace(1, rounds, 12).astype(int))) if figure == "iterations" else {rounds}
    points: list[Point] = []

    def follow(round_index: int, models: np.ndarray) -> None:
        advance(1 / rounds)
        if round_index in noted:
            iterations = round_index - 1 if figure == "iterations" else None
            named = {"method": "our_gradient", "calibration": OURS, "iterations": iterations}
            points.append(measure(models, experiment.judge, **named, **where))

    train_by_gradients(task, table.training, runs=experiment.settings.runs, follow=follow)
    return points


def _enough_for_statistics(experiment: Experiment, owners: int) -> bool:
    """Tell whether owners have two records at least, which a task asks for."""
    return bool(experiment.split(owners).counts.min() >= 2)


def _statistics(experiment: Experiment, owners: int, epsilon: float, figure: str) -> Point:
    task = make_task(experiment.table, owners, epsilon=epsilon, delta=DELTA, **statistics_sections())
    shares = owner_shares(experiment, task)
    models = np.stack([simulate(task, shares) for _ in range(experiment.settings.runs)])
    where = experiment.where(figure, owners, epsilon, DELTA)
    return measure(models, experiment.judge, method="our_statistics", calibration=OURS, **where)


def owner_shares(experiment: Experiment, task: Task) -> Mapping[str, Dataset]:
    """Deal the training records out as a task says, by name of the owner."""
    ends = np.cumsum(task.record_counts).tolist()
    return {
        owner.name: part(experiment.table.training, end - owner.record_count, end)
        for owner, end in zip(task.owners, ends, strict=True)
    }
