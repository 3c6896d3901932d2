"""Figures 1 and 2: how methods fare along the iterations, in the paper's setting and with its calibration.

As in the paper's code, T = 1,500 rounds are what the noise is calibrated for, the learning rate is 1, owners of the
output methods take one step of gradient descent in every iteration, and a point of theirs is the mean of the owners'
models so far with new noise. Ours is beside them, with the valid calibration and as many rounds as its rules choose.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from mpcdp.reproduce.baselines import (
    GRADIENT_METHODS,
    OUTPUT_METHODS,
    Calibration,
    LocalObjective,
    RajkumarAgarwal,
    Setting,
)
from mpcdp.reproduce.descent import Descent, descend
from mpcdp.reproduce.experiment import Advance, Experiment, Stage
from mpcdp.reproduce.local_training import descend_on_average
from mpcdp.reproduce.our_points import our_points
from mpcdp.reproduce.points import Point, measure, seed_of
from mpcdp.reproduce.settings import LEARNING_RATE, PAPER_DELTA, PAPER_EPSILON, PAPER_ROUNDS, REGULARIZATION

__all__ = ["ITERATIONS", "iteration_stages"]

ITERATIONS = tuple(range(0, PAPER_ROUNDS, 100))
"""Where the paper has points; its iteration i is after i + 1 steps."""

_STEPS = tuple(iteration + 1 for iteration in ITERATIONS)
_PAPER = Calibration.PAPER


def iteration_stages(experiment: Experiment) -> Iterator[Stage]:
    """List the work of both figures."""
    for owners in experiment.owner_counts(experiment.settings.iteration_owners):
        name = f"{experiment.table.title}, iterations, m = {owners:,}"
        yield Stage(f"{name}: output methods", partial(_output, experiment, owners))
        yield Stage(f"{name}: local objectives", partial(_objective, experiment, owners))
        yield Stage(f"{name}: gradient methods", partial(_gradient, experiment, owners))
        yield Stage(f"{name}: ours", partial(_ours, experiment, owners))


def _setting(experiment: Experiment, owners: int) -> Setting:
    return experiment.setting(owners, epsilon=PAPER_EPSILON, delta=PAPER_DELTA)


def _points(experiment: Experiment, owners: int, method: str, models: Sequence[np.ndarray]) -> list[Point]:
    where = experiment.where("iterations", owners, PAPER_EPSILON, PAPER_DELTA)
    return [
        measure(each, experiment.judge, method=method, calibration="paper", iterations=iteration, **where)
        for iteration, each in zip(ITERATIONS, models, strict=True)
    ]


def _output(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    means = descend_on_average(
        experiment.split(owners),
        loss=experiment.loss,
        regularization=REGULARIZATION,
        checkpoints=_STEPS,
        learning_rate=LEARNING_RATE,
    )
    setting, runs, points = _setting(experiment, owners), experiment.settings.runs, []
    for method in OUTPUT_METHODS:
        rng, noise = experiment.rng("iterations", owners, method.key), method.noise(setting, _PAPER)
        models = [mean + noise.sample(rng, runs, setting.dimension) for mean in means]
        points += _points(experiment, owners, method.key, models)
    return points


def _objective(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    setting, method = _setting(experiment, owners), LocalObjective()
    terms = method.terms(setting, _PAPER)
    rng = experiment.rng("iterations", owners, method.key)
    models = descend_on_average(
        experiment.split(owners),
        loss=experiment.loss,
        regularization=REGULARIZATION + terms.extra_regularization,
        checkpoints=_STEPS,
        learning_rate=LEARNING_RATE,
        linear=terms.linear.vectors(rng, (experiment.settings.runs, setting.dimension)),
    )
    return _points(experiment, owners, method.key, list(models))


def _gradient(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    setting, runs, agarwal = _setting(experiment, owners), experiment.settings.runs, RajkumarAgarwal()
    seed = partial(seed_of, experiment.settings.seed, experiment.table.name, "iterations", owners)
    descents = [
        Descent(noise=method.noise(setting, _PAPER), runs=runs, seed=seed(method.key)) for method in GRADIENT_METHODS
    ]
    linear, extra = agarwal.tilt(setting, experiment.rng("iterations", owners, "tilt"), runs)
    descents.append(
        Descent(
            noise=agarwal.noise(setting),
            runs=runs,
            linear=linear,
            extra_regularization=extra,
            seed=seed(agarwal.key),
        )
    )
    paths = descend(
        descents,
        experiment.table.training,
        loss=experiment.loss,
        regularization=REGULARIZATION,
        learning_rate=LEARNING_RATE,
        checkpoints=_STEPS,
        progress=lambda steps: advance(steps / _STEPS[-1]),
    )
    keys = [*(method.key for method in GRADIENT_METHODS), agarwal.key]
    return [
        point for key, path in zip(keys, paths, strict=True) for point in _points(experiment, owners, key, list(path))
    ]


def _ours(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    return our_points(experiment, owners, PAPER_EPSILON, figure="iterations", advance=advance)
