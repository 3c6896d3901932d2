"""Quality over epsilon: ours, the paper's, noise of every owner's own, and central privacy on the pooled table.

Ours at m = 1,000 owners stands beside ours with *one* owner who holds all records, same method, same plan: the
difference is what not pooling costs. Whoever is compared with us gets the best of a few settings in hindsight at every
epsilon; ours has one setting for all.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.learning.gradient_perturbation import GradientPerturbation
from mpcdp.learning.linear import LinearModel
from mpcdp.learning.schedule import choose_schedule
from mpcdp.privacy.accountant import gaussian_mu
from mpcdp.reproduce.baselines import Calibration, PaperGradient, PaperOutput
from mpcdp.reproduce.central import CENTRAL, CentralMethod, Trial
from mpcdp.reproduce.descent import Descent, descend
from mpcdp.reproduce.experiment import Advance, Experiment, Stage
from mpcdp.reproduce.our_points import owner_shares
from mpcdp.reproduce.ours import (
    gradient_sections,
    make_task,
    output_sections,
    statistics_sections,
    train_by_gradients,
    train_by_output,
)
from mpcdp.reproduce.points import OURS, Point, measure, seed_of
from mpcdp.reproduce.settings import (
    DELTA,
    LEARNING_RATE,
    PAPER_DELTA,
    PAPER_OWNERS,
    PAPER_ROUNDS,
    REGULARIZATION,
)
from mpcdp.simulation import simulate

__all__ = ["FIGURE", "best_of", "frontier_stages"]

FIGURE = "frontier"
_PER_OWNER_REGULARIZATIONS = (3e-3, 3e-2, 3e-1)


def frontier_stages(experiment: Experiment, *, left_out: Collection[str] = ()) -> Iterator[Stage]:
    """List the work of one table.

    Args:
        experiment: the table's.
        left_out: libraries that cannot be used.
    """
    table = experiment.table
    once = ("statistics", _our_statistics) if table.regression else ("output", _our_output)
    for owners in (PAPER_OWNERS, 1):
        for name, work in (once, ("gradient", _our_gradient)):
            yield Stage(f"{table.title}: ours, {name}, m = {owners:,}", partial(work, experiment, owners))
    if not table.regression:
        yield Stage(f"{table.title}: noise of every owner's own, output", partial(_per_owner_output, experiment))
    yield Stage(f"{table.title}: noise of every owner's own, gradient", partial(_per_owner_gradient, experiment))
    yield Stage(f"{table.title}: the paper's", partial(_paper, experiment))
    for method in CENTRAL:
        if method.library not in left_out:
            yield Stage(f"{table.title}: {method.library}", partial(_central, experiment, method))


def best_of(points: Sequence[Point], *, regression: bool) -> Point:
    """Return the point of the highest accuracy, or with ``regression`` of the smallest mean squared error."""
    return (min if regression else max)(points, key=lambda point: point.quality)


def _measure(
    experiment: Experiment,
    models: NDArray[np.float64],
    *,
    method: str,
    calibration: str,
    owners: int,
    epsilon: float,
    delta: float,
) -> Point:
    where = experiment.where(FIGURE, owners, epsilon, delta)
    return measure(models, experiment.judge, method=method, calibration=calibration, **where)


def _our_output(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    points, settings = [], experiment.settings
    for epsilon in settings.epsilons:
        sections = output_sections(REGULARIZATION)
        task = make_task(experiment.table, owners, epsilon=epsilon, delta=DELTA, **sections)
        models = train_by_output(task, experiment.split(owners), runs=settings.runs)
        points.append(_ours(experiment, models, "our_output", owners, epsilon))
        advance(1 / len(settings.epsilons))
    return points


def _our_statistics(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    points, settings = [], experiment.settings
    for epsilon in settings.epsilons:
        task = make_task(experiment.table, owners, epsilon=epsilon, delta=DELTA, **statistics_sections())
        shares = owner_shares(experiment, task)
        models = np.stack([simulate(task, shares) for _ in range(settings.runs)])
        points.append(_ours(experiment, models, "our_statistics", owners, epsilon))
        advance(1 / len(settings.epsilons))
    return points


def _our_gradient(experiment: Experiment, owners: int, advance: Advance) -> list[Point]:
    points, settings = [], experiment.settings
    for epsilon in settings.epsilons:
        sections = gradient_sections(REGULARIZATION, regression=experiment.table.regression)
        task = make_task(experiment.table, owners, epsilon=epsilon, delta=DELTA, **sections)
        models = train_by_gradients(task, experiment.table.training, runs=settings.runs)
        points.append(_ours(experiment, models, "our_gradient", owners, epsilon))
        advance(1 / len(settings.epsilons))
    return points


def _ours(experiment: Experiment, models: NDArray[np.float64], method: str, owners: int, epsilon: float) -> Point:
    name = method if owners > 1 else f"{method}_pooled"
    return _measure(experiment, models, method=name, calibration=OURS, owners=owners, epsilon=epsilon, delta=DELTA)


def _per_owner_output(experiment: Experiment, advance: Advance) -> list[Point]:
    points, settings = [], experiment.settings
    for epsilon in settings.epsilons:
        tried = []
        for regularization in _PER_OWNER_REGULARIZATIONS:
            sections = output_sections(regularization)
            task = make_task(experiment.table, PAPER_OWNERS, epsilon=epsilon, delta=DELTA, **sections)
            rng = experiment.rng(FIGURE, "per_owner_output", epsilon, regularization)
            owners = experiment.split(PAPER_OWNERS)
            models = train_by_output(task, owners, runs=settings.runs, every_owner=rng)
            tried.append(_per_owner(experiment, models, "per_owner_output", epsilon))
        points.append(best_of(tried, regression=False))
        advance(1 / len(settings.epsilons))
    return points


def _per_owner_gradient(experiment: Experiment, advance: Advance) -> list[Point]:
    """Leave the schedule to the rules, for the budget at which one copy would be as large as all copies are."""
    points, settings, table = [], experiment.settings, experiment.table
    for epsilon in settings.epsilons:
        sections: dict[str, Any] = dict(gradient_sections(REGULARIZATION, regression=table.regression))
        method = make_task(table, 1, epsilon=epsilon, delta=DELTA, **sections).method()
        assert isinstance(method, GradientPerturbation)  # noqa: S101 (narrows the type)
        assert isinstance(method.model, LinearModel)  # noqa: S101 (narrows the type)
        schedule = choose_schedule(
            mu=gaussian_mu(epsilon=epsilon, delta=DELTA) / np.sqrt(PAPER_OWNERS),
            record_count=table.training.record_count,
            dimension=method.parameter_count,
            gradient_bound=method.model.gradient_bound,
            smoothness=method.model.smoothness,
            quadratic=method.model.quadratic,
            regularization=REGULARIZATION,
        )
        sections["method"] = {
            "kind": "gradient-perturbation",
            "rounds": schedule.rounds,
            "learning_rate": schedule.learning_rate,
            "momentum": schedule.momentum,
            "clipping_norm": schedule.clipping_norm,
        }
        task = make_task(table, PAPER_OWNERS, epsilon=epsilon, delta=DELTA, **sections)
        rng = experiment.rng(FIGURE, "per_owner_gradient", epsilon)
        models = train_by_gradients(task, table.training, runs=settings.runs, every_owner=rng)
        points.append(_per_owner(experiment, models, "per_owner_gradient", epsilon))
        advance(1 / len(settings.epsilons))
    return points


def _per_owner(experiment: Experiment, models: NDArray[np.float64], method: str, epsilon: float) -> Point:
    return _measure(
        experiment, models, method=method, calibration="valid", owners=PAPER_OWNERS, epsilon=epsilon, delta=DELTA
    )


def _paper(experiment: Experiment, advance: Advance) -> list[Point]:
    """Run the paper's two methods with its calibration."""
    settings, output, gradient = experiment.settings, PaperOutput(), PaperGradient()
    points, descents, mean = [], [], experiment.mean_of_minimizers(PAPER_OWNERS)
    measured = partial(_measure, experiment, calibration="paper", owners=PAPER_OWNERS)
    for epsilon in settings.epsilons:
        setting = experiment.setting(PAPER_OWNERS, epsilon=epsilon, delta=PAPER_DELTA)
        rng = experiment.rng(FIGURE, output.key, epsilon)
        models = mean + output.noise(setting, Calibration.PAPER).sample(rng, settings.runs, setting.dimension)
        points.append(measured(models, method=output.key, epsilon=epsilon, delta=0.0))
        seed = seed_of(settings.seed, experiment.table.name, FIGURE, gradient.key, epsilon)
        noise = gradient.noise(setting, Calibration.PAPER)
        descents.append(Descent(noise=noise, runs=settings.runs, seed=seed))
    paths = descend(
        descents,
        experiment.table.training,
        loss=experiment.loss,
        regularization=REGULARIZATION,
        learning_rate=LEARNING_RATE,
        checkpoints=range(50, PAPER_ROUNDS + 1, 50),
        progress=lambda steps: advance(steps / PAPER_ROUNDS),
    )
    for epsilon, path in zip(settings.epsilons, paths, strict=True):
        points.append(measured(path[-1], method=gradient.key, epsilon=epsilon, delta=PAPER_DELTA))
    return points


def _central(experiment: Experiment, method: CentralMethod, advance: Advance) -> list[Point]:
    """Train everything of one budget together, so that a library elsewhere is started once for it."""
    points, settings, table = [], experiment.settings, experiment.table
    for epsilon in settings.epsilons:
        trials = [
            Trial(epsilon, DELTA, setting, seed_of(settings.seed, table.name, method.library, epsilon, setting, run))
            for setting in method.settings
            for run in range(settings.runs)
        ]
        models = method.train(table.training, trials).reshape(len(method.settings), settings.runs, -1)
        delta = DELTA if method.has_delta else 0.0
        measured = partial(_measure, experiment, method=method.library, calibration="valid", owners=1, delta=delta)
        points.append(best_of([measured(some, epsilon=epsilon) for some in models], regression=table.regression))
        advance(1 / len(settings.epsilons))
    return points
