"""All owners' local models at once are what each owner alone would compute."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.losses import LogisticLoss
from mpcdp.reproduce.local_training import OwnerTables, descend_on_average, minimizers
from mpcdp.reproduce.risk import LOGISTIC, SQUARED, ScoreLoss

Array = NDArray[np.float64]


def make_dataset(records: int, dimension: int, *, regression: bool = False, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    rows = clip_rows(rng.normal(size=(records, dimension)))
    labels = rng.uniform(-1, 1, records) if regression else rng.choice([-1.0, 1.0], records)
    return Dataset(rows, labels, 0 if regression else 2)


def slices(tables: OwnerTables) -> list[slice]:
    ends = tables.counts.cumsum()
    return [slice(int(end - count), int(end)) for end, count in zip(ends, tables.counts, strict=True)]


def solved(
    tables: OwnerTables, loss: ScoreLoss, regularization: float, linear: NDArray[np.float64]
) -> NDArray[np.float64]:
    columns = linear.shape[1]
    terms = (linear if len(linear) == 1 else linear[chunk] for chunk in tables.chunks(columns))
    found = minimizers(tables, loss=loss, regularization=regularization, linear=terms, columns=columns)
    return np.concatenate([models for _, models in found])


@pytest.mark.parametrize(("records", "owners"), [(40, 40), (41, 9), (200, 3), (7, 1)])
def test_they_are_the_certified_solvers(records: int, owners: int) -> None:
    dataset = make_dataset(records, 6)
    tables = OwnerTables.split(dataset, owners)
    solver = CertifiedSolver(loss=LogisticLoss(), regularization=1e-2, certificate=1e-9)
    models = solved(tables, LOGISTIC, 1e-2, np.zeros((1, 1, 6)))[:, 0]
    assert tables.counts.sum() == records
    for model, records_of in zip(models, slices(tables), strict=True):
        alone = solver.solve(Dataset(dataset.features[records_of].copy(), dataset.labels[records_of].copy()))
        np.testing.assert_allclose(model, alone, atol=3e-7)


@given(
    records=st.integers(1, 30),
    owners=st.integers(1, 8),
    dimension=st.integers(1, 9),
    regularization=st.sampled_from([1e-3, 0.1]),
    regression=st.booleans(),
    shared=st.booleans(),
)
@settings(max_examples=60)
def test_gradients_vanish_with_linear_terms(
    records: int, owners: int, dimension: int, regularization: float, regression: bool, shared: bool
) -> None:
    owners = min(owners, records)
    dataset = make_dataset(records, dimension, regression=regression, seed=records)
    tables, loss = OwnerTables.split(dataset, owners), SQUARED if regression else LOGISTIC
    linear = np.random.default_rng(1).normal(size=(1 if shared else owners, 2, dimension))
    models = solved(tables, loss, regularization, linear)
    for owner, records_of in enumerate(slices(tables)):
        rows, labels = dataset.features[records_of], dataset.labels[records_of]
        for column in range(2):
            model = models[owner, column]
            slopes = loss.slope(rows @ model, labels)
            gradient = rows.T @ slopes / len(rows) + regularization * model + linear[0 if shared else owner, column]
            assert np.linalg.norm(gradient) < 1e-7


@pytest.mark.parametrize("regression", [False, True])
@pytest.mark.parametrize("owners", [2, 12, 25])
def test_descent_is_the_loop_over_owners(regression: bool, owners: int) -> None:
    dataset = make_dataset(25, 5, regression=regression)
    tables, loss = OwnerTables.split(dataset, owners), SQUARED if regression else LOGISTIC
    linear = np.random.default_rng(2).normal(size=(3, 5)) / 10
    arguments = {"loss": loss, "regularization": 0.3, "checkpoints": (1, 7, 120), "learning_rate": 0.9}
    path = descend_on_average(tables, linear=linear, tolerance=0.0, **arguments)  # type: ignore[arg-type]
    expected = np.zeros((3, 3, 5))
    for records_of in slices(tables):
        rows, labels = dataset.features[records_of], dataset.labels[records_of]
        for column in range(3):
            point = np.zeros(5)
            for step in range(1, 121):
                slopes = loss.slope(rows @ point, labels)
                point = point - 0.9 * (rows.T @ slopes / len(rows) + 0.3 * point + linear[column])
                if step in (1, 7, 120):
                    expected[(1, 7, 120).index(step), column] += point / owners
    np.testing.assert_allclose(path, expected, atol=1e-10)
    stopped = descend_on_average(tables, linear=linear, **arguments)  # type: ignore[arg-type]
    np.testing.assert_allclose(stopped, expected, atol=1e-6)


def test_too_many_owners_are_refused() -> None:
    with pytest.raises(ValueError, match="too few for 6 owners"):
        OwnerTables.split(make_dataset(5, 2), 6)
