"""Descents side by side are the loops they stand for."""

import numpy as np
import pytest
from small_tables import small_table

from mpcdp.data.dataset import Dataset
from mpcdp.reproduce.baselines import Noise
from mpcdp.reproduce.descent import Descent, descend
from mpcdp.reproduce.risk import LOGISTIC, SQUARED, ScoreLoss

NONE = Noise("gaussian", 0.0)


def expected(dataset: Dataset, loss: ScoreLoss, *, steps: int, linear: np.ndarray, regularization: float) -> np.ndarray:
    point = np.zeros(dataset.dimension)
    for _ in range(steps):
        slopes = loss.slope(dataset.features @ point, dataset.labels)
        gradient = dataset.features.T @ slopes / dataset.record_count + regularization * point + linear
        point = point - 0.8 * gradient
    return point


@pytest.mark.parametrize("regression", [False, True])
def test_without_noise_it_is_gradient_descent_with_repeated_records_too(regression: bool) -> None:
    once, loss = small_table(regression=regression).training, SQUARED if regression else LOGISTIC
    twice = np.r_[0:240, 0:80]
    dataset = Dataset(once.features[twice], once.labels[twice], once.class_count)
    linear = np.random.default_rng(0).normal(size=(2, dataset.dimension)) / 50
    tilted = Descent(noise=NONE, runs=2, linear=linear, extra_regularization=0.1)
    arguments = {"loss": loss, "regularization": 0.02, "learning_rate": 0.8, "checkpoints": (1, 30)}
    plain, other = descend([Descent(noise=NONE, runs=1), tilted], dataset, **arguments)  # type: ignore[arg-type]
    assert plain.shape == (2, 1, 5)
    for number, steps in enumerate((1, 30)):
        alone = expected(dataset, loss, steps=steps, linear=np.zeros(5), regularization=0.02)
        np.testing.assert_allclose(plain[number, 0], alone, atol=1e-5)
        for run in range(2):
            moved = expected(dataset, loss, steps=steps, linear=linear[run], regularization=0.12)
            np.testing.assert_allclose(other[number, run], moved, atol=1e-5)


def test_every_column_has_noise_of_its_own_in_every_step() -> None:
    dataset = small_table().training
    several = [Descent(noise=Noise("gaussian", scale), runs=300, seed=1) for scale in (0.1, 0.4)]
    arguments = {"loss": LOGISTIC, "regularization": 0.0, "learning_rate": 0.01, "checkpoints": (1, 5)}
    small, large = descend(several, dataset, **arguments)  # type: ignore[arg-type]
    for steps, number in ((1, 0), (5, 1)):
        assert small[number].std(axis=0).mean() == pytest.approx(0.001 * np.sqrt(steps), rel=0.1)
        assert large[number].std(axis=0).mean() == pytest.approx(0.004 * np.sqrt(steps), rel=0.1)
    again, *_ = descend(several[:1], dataset, **arguments)  # type: ignore[arg-type]
    np.testing.assert_array_equal(again, small)
