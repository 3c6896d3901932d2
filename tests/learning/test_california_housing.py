"""Sufficient statistics on a real table: how far one record moves them, and how good the private model is."""

import numpy as np
import pytest
from benchmark_tables import all_records, benchmark_table
from neighbours import moved, replace_record
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.data.schema import Schema
from mpcdp.learning.statistics import TARGET_WEIGHT, SufficientStatistics
from mpcdp.mpc.noise import OFFSET, universal_noise
from mpcdp.mpc.noise_bank import PerPartyNoise
from mpcdp.plan.calibration import Calibration
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.reproduce.tables import BenchmarkTable
from mpcdp.secret_sharing.fixed_point import Encoding
from mpcdp.secret_sharing.shares import NoisedVector, SharedVector

pytestmark = pytest.mark.data

OWNERS = 5


@pytest.fixture(scope="module", name="table")
def _table() -> BenchmarkTable:
    return benchmark_table("california-housing")


@pytest.fixture(scope="module")
def schema(table: BenchmarkTable) -> Schema:
    return table.schema


@pytest.fixture(scope="module")
def dataset(table: BenchmarkTable) -> Dataset:
    return all_records(table)


def part(dataset: Dataset, records: NDArray[np.int64]) -> Dataset:
    return Dataset(dataset.features[records], dataset.labels[records], dataset.class_count)


def contribution(dataset: Dataset) -> NDArray[np.float64]:
    method = SufficientStatistics(parameter_count=dataset.dimension)
    return method.contribution(dataset, method.initial_state(), key=bytes(32))


def explained(model: NDArray[np.float64], test: Dataset, schema: Schema) -> float:
    """Return R^2 of the predictions in dollars."""
    predicted, actual = schema.label.unscale(test.features @ model), schema.label.unscale(test.labels)
    return float(1 - np.sum((predicted - actual) ** 2) / np.sum((actual - actual.mean()) ** 2))


def private_release(owners: list[Dataset], budget: PrivacyBudget) -> tuple[NDArray[np.float64], float]:
    """Encode, add and noise the owners' contributions as a session with joint noise does.

    Returns:
        The release and the noise's standard deviation, real units.
    """
    method = SufficientStatistics(parameter_count=owners[0].dimension)
    counts = [owner.record_count for owner in owners]
    bound = max(method.contribution_bound(count) for count in counts)
    noise = universal_noise("gaussian", "joint")
    calibration = Calibration(
        distribution="gaussian",
        noise=noise,
        dimension=method.dimension,
        rounds=method.rounds,
        sensitivity=method.sensitivity(counts),
        bound=bound,
    )
    encoding = Encoding(scale=calibration.solve(budget), bound=bound)
    shared = [SharedVector(encoding.encode(contribution(owner))) for owner in owners]
    total = SharedVector.total(shared, dimension=method.dimension)
    bank = PerPartyNoise(noise, dimension=method.dimension, rounds=1)
    noised = NoisedVector.add(total, bank.take(0))
    return encoding.decode(noised.values, offset=OFFSET), noise.scale / encoding.scale


def test_the_table_is_as_described(dataset: Dataset, schema: Schema) -> None:
    assert (dataset.record_count, dataset.dimension, dataset.class_count) == (20_640, 14, 0)
    dollars = schema.label.unscale(dataset.labels)
    assert (dollars.min(), np.median(dollars), dollars.max()) == pytest.approx((14_999, 179_700, 500_000))


def test_the_sensitivity_is_never_exceeded(dataset: Dataset) -> None:
    method = SufficientStatistics(parameter_count=dataset.dimension)
    rng = np.random.default_rng(0)
    ratios = []
    for size in (20_640, 3000, 20):
        owner = part(dataset, rng.permutation(dataset.record_count)[:size])
        bound = method.sensitivity([size]).bound
        for _ in range(20):
            index, other = int(rng.integers(size)), int(rng.integers(dataset.record_count))
            neighbours = [
                replace_record(owner, index, dataset.features[other], dataset.labels[other]),
                replace_record(owner, index, dataset.features[other], -np.sign(owner.labels[index])),
                replace_record(owner, index, np.zeros(owner.dimension), 0.0),
                worst_neighbour(owner, index),
            ]
            ratios += [moved(method, owner, neighbour) / bound for neighbour in neighbours]
    assert max(ratios) <= 1
    assert max(ratios) > 0.95, "the pairs were too tame to test anything"


def worst_neighbour(owner: Dataset, index: int) -> Dataset:
    """Replace a real record by a unit row at the theorem's angle, with the opposite target."""
    row = owner.features[index]
    direction = row / np.linalg.norm(row)
    aside = np.eye(owner.dimension)[0] - direction[0] * direction
    overlap = TARGET_WEIGHT**2 / 2
    other = overlap * direction + np.sqrt(1 - overlap**2) * aside / np.linalg.norm(aside)
    return replace_record(owner, index, other, -1.0 if owner.labels[index] > 0 else 1.0)


@pytest.mark.slow
def test_the_private_model_explains_at_least_85_percent_of_what_the_non_private_one_does(
    dataset: Dataset, schema: Schema
) -> None:
    """epsilon = 1, delta = 1e-6, a held-out fifth, mean of 10 runs of new splits and new noise.

    Measured: R^2 0.62 (0.60 in the worst run) against 0.67.
    """
    budget = PrivacyBudget(epsilon=1.0, delta=1e-6)
    private, plain = [], []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(dataset.record_count)
        test, training = part(dataset, order[: len(order) // 5]), order[len(order) // 5 :]
        owners = [part(dataset, records) for records in np.array_split(training, OWNERS)]
        release, deviation = private_release(owners, budget)
        method = SufficientStatistics(parameter_count=dataset.dimension)
        state = method.next_state(
            method.initial_state(), release, record_count=len(training), noise_deviation=deviation
        )
        private.append(explained(state.model, test, schema))
        pooled = part(dataset, training)
        least_squares = np.asarray(np.linalg.lstsq(pooled.features, pooled.labels, rcond=None)[0], dtype=np.float64)
        plain.append(explained(least_squares, test, schema))
    assert np.mean(plain) > 0.6
    assert np.mean(private) >= 0.85 * np.mean(plain)
    assert np.mean(private) < np.mean(plain)
