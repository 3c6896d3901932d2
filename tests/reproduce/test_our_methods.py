"""Our methods in batches are the sessions that `mpcdp.simulation` runs owner by owner."""

from dataclasses import replace

import numpy as np
import pytest
from small_tables import small_table

from mpcdp.data.dataset import Dataset
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.linear import LinearModel, MarginResiduals, SquaredResiduals
from mpcdp.learning.losses import LogisticLoss
from mpcdp.plan import make_plan
from mpcdp.reproduce.experiment import Experiment
from mpcdp.reproduce.local_training import OwnerTables
from mpcdp.reproduce.our_points import our_points, owner_shares
from mpcdp.reproduce.ours import (
    clipped_sums,
    gradient_sections,
    make_task,
    output_sections,
    train_by_gradients,
    train_by_output,
)
from mpcdp.reproduce.risk import LOGISTIC, Judge
from mpcdp.reproduce.settings import QUICK
from mpcdp.simulation import simulate

EPSILON, DELTA = 2.0, 1e-6


@pytest.mark.parametrize("regression", [False, True])
def test_clipped_sums_are_those_of_single_points(regression: bool) -> None:
    some = small_table(regression=regression).training
    again = [*range(some.record_count), *range(30), *range(10)]  # records that occur twice and three times
    training = Dataset(some.features[again], some.labels[again], some.class_count)
    model = LinearModel(
        kind=SquaredResiduals() if regression else MarginResiduals(LogisticLoss()), dimension=training.dimension
    )
    points = np.random.default_rng(0).normal(size=(6, training.dimension))
    together = clipped_sums(model, training, points, clipping_norm=0.3)
    for point, total in zip(points, together, strict=True):
        np.testing.assert_allclose(total, model.clipped_sum(training, point, clipping_norm=0.3), atol=1e-7)


@pytest.mark.parametrize("owners", [1, 7, 80])
def test_output_perturbation_is_the_simulated_session(owners: int) -> None:
    table = small_table()
    task = make_task(table, owners, epsilon=EPSILON, delta=DELTA, **output_sections(0.01))
    shares = owner_shares(Experiment(table, QUICK), task)
    model = train_by_output(task, OwnerTables.split(table.training, owners), runs=2, noise=False)
    np.testing.assert_allclose(model[1], simulate(task, shares, noise=False), atol=5e-6)  # certificate / regularization


@pytest.mark.parametrize("regression", [False, True])
def test_gradient_perturbation_is_the_simulated_session(regression: bool) -> None:
    table = small_table(regression=regression)
    sections = gradient_sections(0.01, regression=regression)
    task = make_task(table, 7, epsilon=EPSILON, delta=DELTA, **sections)
    shares = owner_shares(Experiment(table, QUICK), task)
    seen: list[int] = []
    models = train_by_gradients(task, table.training, runs=2, noise=False, follow=lambda index, _: seen.append(index))
    np.testing.assert_allclose(models[0], simulate(task, shares, noise=False), atol=1e-3)
    assert seen == list(range(1, task.method().rounds + 1))


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("mechanism", ["gaussian", "laplace"])
def test_noise_is_the_plans(mechanism: str, copies: bool) -> None:
    """Every coordinate carries the plan's noise over the records, once, or once for every owner."""
    table, owners = small_table(), 12
    task = make_task(table, owners, epsilon=EPSILON, delta=DELTA, **output_sections(0.01, mechanism=mechanism))
    split, rng = OwnerTables.split(table.training, owners), np.random.default_rng(0) if copies else None
    exact = train_by_output(task, split, runs=1, noise=False)
    noise = train_by_output(task, split, runs=1000, every_owner=rng) - exact
    expected = make_plan(task).noise_deviation / table.training.record_count * (np.sqrt(owners) if copies else 1)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(expected, rel=0.06)


def test_gradients_noise_is_drawn_anew_in_every_round_and_run() -> None:
    table = small_table()
    sections = {**gradient_sections(1e-3, regression=False)}
    sections["method"] = {"kind": "gradient-perturbation", "rounds": 2, "learning_rate": 1.0, "averaging": False}
    task = make_task(table, 5, epsilon=EPSILON, delta=DELTA, **sections)
    paths: list[np.ndarray] = []
    train_by_gradients(task, table.training, runs=400, follow=lambda _, models: paths.append(models))
    first = paths[0]
    expected = make_plan(task).noise_deviation / table.training.record_count
    assert first.std(axis=0).mean() == pytest.approx(expected, rel=0.1)
    assert np.corrcoef(first[:-1].ravel() - np.tile(first.mean(axis=0), 399), first[1:].ravel())[0, 1] < 0.2
    assert (paths[1] - first).std(axis=0).mean() > 0.8 * expected


def test_owners_of_one_record_are_simulated() -> None:
    table = small_table(records=60)
    task = make_task(table, 60, epsilon=EPSILON, delta=DELTA, **output_sections(0.05))
    plan = make_plan(task)
    assert plan.record_counts == (1,) * 60
    pairs = make_task(table, 30, epsilon=EPSILON, delta=DELTA, **output_sections(0.05))
    assert plan.noise_deviation == pytest.approx(make_plan(pairs).noise_deviation, rel=1e-5)
    assert train_by_output(task, OwnerTables.split(table.training, 60), runs=3).shape == (3, 5)


def test_points_of_regression_have_no_output_perturbation() -> None:
    experiment = Experiment(small_table(regression=True), QUICK)
    points = our_points(experiment, 20, 5.0, figure="iterations")
    assert [point.method for point in points if point.iterations is None] == ["our_statistics"]
    gradient = [point for point in points if point.method == "our_gradient"]
    assert gradient[0].iterations == 0
    assert gradient[-1].gap < gradient[0].gap


def test_least_squares_by_gradients_arrives_with_the_rules_steps() -> None:
    """The squared loss is curved everywhere: steps that are long for logistic regression diverge here."""
    experiment = Experiment(small_table(records=2000, regression=True), QUICK)
    sections = gradient_sections(1e-3, regression=True)
    for epsilon in (1.0, 10.0):
        task = make_task(experiment.table, 10, epsilon=epsilon, delta=DELTA, **sections)
        models = train_by_gradients(task, experiment.table.training, runs=1, noise=False)
        assert experiment.judge.gaps(models)[0] < 1e-3


@pytest.mark.parametrize("regularization", [1e-2, 1e-3])
def test_a_large_budget_finds_the_minimum(regularization: float) -> None:
    """Neither clipping nor steps that are too long keep the rules from it, when one class is rare and hard to tell."""
    table = small_table(records=8000)
    training, rng = table.training, np.random.default_rng(5)
    scores = 4 * training.features.sum(axis=1) + rng.logistic(size=training.record_count)
    rare = replace(table, training=Dataset(training.features, np.where(scores > 4, 1.0, -1.0), 2))
    task = make_task(rare, 10, epsilon=10.0, delta=DELTA, **gradient_sections(regularization, regression=False))
    models = train_by_gradients(task, rare.training, runs=3)
    optimum = CertifiedSolver(loss=LogisticLoss(), regularization=regularization, certificate=1e-8).solve(rare.training)
    judge = Judge(training=rare.training, test=rare.test, loss=LOGISTIC, regularization=regularization, optimum=optimum)
    assert judge.gaps(models).max() < 1e-4
