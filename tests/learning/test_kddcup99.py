"""The sensitivity bound and the whole way from a table to a model on the paper's table, KDDCup99."""

import numpy as np
import pytest
from benchmark_tables import all_records, benchmark_table
from neighbours import hard_replacements, moved

from mpcdp.data.dataset import Dataset
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss, Loss
from mpcdp.learning.output_perturbation import OutputPerturbation

pytestmark = pytest.mark.data

TRAINING, TEST = 50_000, 20_000


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """The 70,000 random records of `mpcdp reproduce`, training records first."""
    return all_records(benchmark_table("kddcup99"))


def part(dataset: Dataset, start: int, size: int) -> Dataset:
    return Dataset(dataset.features[start : start + size].copy(), dataset.labels[start : start + size].copy())


def test_the_non_private_model_is_as_good_as_published(dataset: Dataset) -> None:
    assert dataset.record_count == TRAINING + TEST
    assert 115 <= dataset.dimension <= 125
    assert np.mean(dataset.labels == 1) == pytest.approx(0.2, abs=0.01)
    method = OutputPerturbation(loss=LogisticLoss(), regularization=1e-3, certificate=1e-8, dimension=dataset.dimension)
    training, test = part(dataset, 0, TRAINING), part(dataset, TRAINING, TEST)
    model = method.contribution(training, method.initial_state(), key=bytes(32))
    assert np.mean(np.sign(test.features @ model) == test.labels) == pytest.approx(0.988, abs=0.004)


@pytest.mark.parametrize("loss", [LogisticLoss(), HuberSvmLoss(0.5)], ids=repr)
@pytest.mark.parametrize("regularization", [1e-3, 1e-2])
def test_the_sensitivity_is_never_exceeded(loss: Loss, regularization: float, dataset: Dataset) -> None:
    method = OutputPerturbation(loss=loss, regularization=regularization, certificate=1e-7, dimension=dataset.dimension)
    rng = np.random.default_rng(1)
    ratios = []
    for sizes in ([5000, 1200, 300], [3000, 30]):
        bound = method.sensitivity(sizes).bound
        for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            owner = part(dataset, int(start), size)
            theta = method.contribution(owner, method.initial_state(), key=bytes(32)) / size
            for before, after in hard_replacements(owner, theta, dataset, rng):
                ratios.append(moved(method, before, after) / bound)
    assert len(ratios) >= 50
    assert max(ratios) <= 1
    assert max(ratios) > 1 / 3, "the pairs were too tame to test anything"
