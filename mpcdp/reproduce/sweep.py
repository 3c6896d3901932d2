"""The grid around the paper's setting: 100, 1,000 and 50,000 owners, epsilon from 0.01 to 10, both calibrations.

Owners of the output methods solve their problems exactly, as the theorems have it; the baselines by gradients take the
paper's 1,500 rounds. With the valid calibration delta is 1e-6, with the paper's 1e-3 where the method has one.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mpcdp.reproduce.baselines import (
    GRADIENT_METHODS,
    OUTPUT_METHODS,
    Calibration,
    LocalObjective,
    ObjectiveTerms,
    RajkumarAgarwal,
    Setting,
)
from mpcdp.reproduce.descent import Descent, descend
from mpcdp.reproduce.experiment import Advance, Experiment, Stage
from mpcdp.reproduce.local_training import OwnerTables, minimizers
from mpcdp.reproduce.our_points import our_points
from mpcdp.reproduce.points import Point, measure, seed_of
from mpcdp.reproduce.settings import DELTA, LEARNING_RATE, PAPER_DELTA, PAPER_ROUNDS, REGULARIZATION

__all__ = ["sweep_stages"]

_FIGURE = "epsilon"
_COLUMNS = 512  # descents side by side: more would leave the processor's cache


def sweep_stages(experiment: Experiment) -> Iterator[Stage]:
    """List the work of the figures over epsilon."""
    settings = experiment.settings
    for owners in experiment.owner_counts(settings.owners):
        name = f"{experiment.table.title}, epsilon, m = {owners:,}"
        yield Stage(f"{name}: output methods", partial(_output, experiment, owners))
        yield Stage(f"{name}: local objectives", partial(_objective, experiment, owners))
        yield Stage(f"{name}: gradient methods", partial(_gradient, experiment, owners))
        yield Stage(f"{name}: ours", partial(_ours, experiment, owners))


def _settings(experiment: Experiment, owners: int) -> Iterator[tuple[Setting, Calibration]]:
    for epsilon, calibration in product(experiment.settings.epsilons, Calibration):
        delta = DELTA if calibration is Calibration.VALID else PAPER_DELTA
        yield experiment.setting(owners, epsilon=epsilon, delta=delta), calibration


def _point(
    experiment: Experiment, setting: Setting, calibration: str, method: str, models: NDArray[np.float64], delta: float
) -> Point:
    where = experiment.where(_FIGURE, setting.owners, setting.epsilon, delta)
    return measure(models, experiment.judge, method=method, calibration=calibration, **where)


def _output(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    mean, points = experiment.mean_of_minimizers(owners), []
    for setting, calibration in _settings(experiment, owners):
        for method in OUTPUT_METHODS:
            rng = experiment.rng(_FIGURE, owners, setting.epsilon, method.key, calibration)
            noise = method.noise(setting, calibration).sample(rng, experiment.settings.runs, setting.dimension)
            points.append(_point(experiment, setting, calibration, method.key, mean + noise, 0.0))
        advance(0.5 / len(experiment.settings.epsilons))
    return points


def _objective(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    tables, runs, points = experiment.split(owners), experiment.settings.runs, []
    method = LocalObjective()
    for setting, calibration in _settings(experiment, owners):
        terms = method.terms(setting, calibration)
        rng = experiment.rng(_FIGURE, owners, setting.epsilon, method.key, calibration)
        total = np.zeros((runs, setting.dimension))
        solved = minimizers(
            tables,
            loss=experiment.loss,
            regularization=REGULARIZATION + terms.extra_regularization,
            linear=_linear_terms(terms, tables, rng, runs),
            columns=runs,
            tolerance=1e-6,
        )
        for _, models in solved:
            total += models.sum(axis=0)
        points.append(_point(experiment, setting, calibration, method.key, total / owners, 0.0))
        advance(0.5 / len(experiment.settings.epsilons))
    return points


def _linear_terms(
    terms: ObjectiveTerms, tables: OwnerTables, rng: np.random.Generator, runs: int
) -> Iterator[NDArray[np.float64]]:
    """Draw the owners' linear terms, run of owners by run of owners."""
    shared = terms.linear.vectors(rng, (1, runs, tables.dimension)) if terms.shared else None
    for chunk in tables.chunks(runs):
        count = chunk.stop - chunk.start
        yield terms.linear.vectors(rng, (count, runs, tables.dimension)) if shared is None else shared


def _gradient(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    runs, named = experiment.settings.runs, []
    for setting, calibration in _settings(experiment, owners):
        seed = partial(seed_of, experiment.settings.seed, experiment.table.name, _FIGURE, owners, setting.epsilon)
        for method in GRADIENT_METHODS:
            descent = Descent(noise=method.noise(setting, calibration), runs=runs, seed=seed(method.key, calibration))
            named.append((descent, setting, calibration, method.key))
        if calibration is Calibration.PAPER:
            named.append((_agarwal(experiment, setting, seed("tilt")), setting, calibration, RajkumarAgarwal.key))
    points, size = [], max(1, _COLUMNS // runs)
    for start in range(0, len(named), size):
        some = named[start : start + size]
        share = len(some) / len(named)
        paths = descend(
            [descent for descent, *_ in some],
            experiment.table.training,
            loss=experiment.loss,
            regularization=REGULARIZATION,
            learning_rate=LEARNING_RATE,
            checkpoints=range(50, PAPER_ROUNDS + 1, 50),
            progress=lambda steps, share=share: advance(share * steps / PAPER_ROUNDS),  # type: ignore[misc]
        )
        points += [
            _point(experiment, setting, calibration, key, path[-1], setting.delta)
            for (_, setting, calibration, key), path in zip(some, paths, strict=True)
        ]
    return points


def _agarwal(experiment: Experiment, setting: Setting, seed: int) -> Descent:
    method, runs = RajkumarAgarwal(), experiment.settings.runs
    linear, extra = method.tilt(setting, np.random.default_rng(seed), runs)
    return Descent(noise=method.noise(setting), runs=runs, linear=linear, extra_regularization=extra, seed=seed + 1)


def _ours(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    epsilons = experiment.settings.epsilons
    return [
        point
        for epsilon in epsilons
        for point in our_points(
            experiment, owners, epsilon, figure=_FIGURE, advance=lambda share: advance(share / len(epsilons))
        )
    ]
