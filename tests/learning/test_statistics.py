"""Sufficient statistics: the joint sensitivity, the sums' rounding, and the model the normal equations give."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbours import moved
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.errors import PlanError
from mpcdp.learning.method import Method
from mpcdp.learning.statistics import LARGEST_ROW_DIMENSION, TARGET_WEIGHT, SufficientStatistics
from mpcdp.privacy.sensitivity import Norm, Relation

_ROOT_OF_TWO = Fraction(math.isqrt(2 * 10**80), 10**40)


def make_table(rows: NDArray[np.float64], targets: NDArray[np.float64], class_count: int = 0) -> Dataset:
    return Dataset(clip_rows(rows), targets.copy(), class_count)


def random_table(record_count: int, dimension: int, *, seed: int, binary: bool = False) -> Dataset:
    """Draw rows of many lengths, some clipped, with targets that depend on them."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(record_count, dimension)) * 1.5 / math.sqrt(dimension)
    targets = np.clip(rows @ rng.normal(size=dimension) + 0.2 * rng.normal(size=record_count), -1, 1)
    return make_table(rows, np.where(targets >= 0, 1.0, -1.0) if binary else targets, 2 if binary else 0)


def contribute(dataset: Dataset) -> NDArray[np.float64]:
    method = SufficientStatistics(parameter_count=dataset.dimension)
    return method.contribution(dataset, method.initial_state(), key=bytes(32))


def fit(release: NDArray[np.float64], dimension: int, *, noise_deviation: float = 0.0) -> NDArray[np.float64]:
    method = SufficientStatistics(parameter_count=dimension)
    start = method.initial_state()
    return method.next_state(start, release, record_count=1, noise_deviation=noise_deviation).model


def exact_contribution(dataset: Dataset) -> list[Fraction]:
    """Compute what a contribution stands for, in rational arithmetic; sqrt(2) to 40 digits."""
    rows = [[Fraction(x) for x in row] for row in dataset.features.tolist()]
    targets = [Fraction(y) for y in dataset.labels.tolist()]
    indices = range(dataset.dimension)
    products = [
        sum((row[i] * row[j] for row in rows), start=Fraction(0)) * (1 if i == j else _ROOT_OF_TWO)
        for i in indices
        for j in indices
        if i <= j
    ]
    sums = [sum((y * row[i] for row, y in zip(rows, targets, strict=True)), start=Fraction(0)) for i in indices]
    return products + [Fraction(TARGET_WEIGHT) * value for value in sums]


def stated_rounding(record_count: int) -> float:
    steps = (record_count + 2) * 2.0**-53
    return steps / (1 - steps) * record_count * math.sqrt(1 + TARGET_WEIGHT**2)


# Rows as they are before clipping: zero, ordinary, beyond the ball, and so long that their squares overflow.
coordinates = st.floats(-2, 2) | st.sampled_from([0.0, -0.0, 5e-324, 1e-170, 1e153, 1e200, -1.7e308])
targets_in_bounds = st.floats(-1, 1) | st.sampled_from([0.0, 1.0, -1.0])


@st.composite
def tables(draw: st.DrawFn) -> Dataset:
    dimension, record_count = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    row = st.lists(coordinates, min_size=dimension, max_size=dimension)
    rows = draw(st.lists(row, min_size=record_count, max_size=record_count))
    targets = draw(st.lists(targets_in_bounds, min_size=record_count, max_size=record_count))
    return make_table(np.array(rows), np.array(targets))


def replaced(dataset: Dataset, index: int, row: NDArray[np.float64], target: float) -> Dataset:
    rows, targets = dataset.features.copy(), dataset.labels.copy()
    rows[index], targets[index] = clip_rows(row[np.newaxis])[0], target
    return Dataset(rows, targets, dataset.class_count)


class TestSensitivity:
    def test_is_the_theorems(self) -> None:
        sensitivity = SufficientStatistics(parameter_count=14).sensitivity([300, 50_000, 40])
        assert sensitivity.norm is Norm.L2
        assert sensitivity.relation is Relation.REPLACE_ONE
        expected = (2 + TARGET_WEIGHT**2) / math.sqrt(2) + 2 * stated_rounding(50_000)
        assert expected <= sensitivity.bound <= expected * (1 + 1e-11)

    def test_rounding_counts_once_it_matters(self) -> None:
        method = SufficientStatistics(parameter_count=2)
        small, large = (method.sensitivity([count]).bound for count in (10, 10**8))
        assert large - small == pytest.approx(2 * 1.25 * 2.0**-53 * 1e16, rel=1e-3)

    @given(tables(), st.data())
    @settings(max_examples=300)
    def test_is_never_exceeded_on_neighbouring_tables(self, dataset: Dataset, data: st.DataObject) -> None:
        method = SufficientStatistics(parameter_count=dataset.dimension)
        index = data.draw(st.integers(0, dataset.record_count - 1))
        row = data.draw(st.lists(coordinates, min_size=dataset.dimension, max_size=dataset.dimension))
        neighbour = replaced(dataset, index, np.array(row), data.draw(targets_in_bounds))
        assert moved(method, dataset, neighbour) <= method.sensitivity([dataset.record_count]).bound

    def test_is_the_largest_over_all_angles_lengths_and_targets(self) -> None:
        """A grid that does not know the proof finds the bound, and nothing beyond it."""
        method = SufficientStatistics(parameter_count=2)
        bound = method.sensitivity([1]).bound
        targets, lengths = (-1.0, -0.5, 0.0, 1.0), (0.5, 0.9, 1.0)
        largest = 0.0
        for angle in np.linspace(0, math.pi, 91):
            for length in lengths:
                for target in targets:
                    row = length * np.array([math.cos(angle), math.sin(angle)])
                    before = make_table(np.array([[1.0, 0.0]]), np.ones(1))
                    largest = max(largest, moved(method, before, replaced(before, 0, row, target)))
        assert 0.999 * bound <= largest <= bound

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    @pytest.mark.parametrize("class_count", [0, 2])
    def test_is_attained_by_a_constructed_pair(self, sign: float, class_count: int) -> None:
        base = random_table(500, 14, seed=3, binary=class_count == 2)
        overlap = TARGET_WEIGHT**2 / 2
        first, second = np.zeros(14), np.zeros(14)
        first[3], second[3], second[7] = 1.0, sign * overlap, math.sqrt(1 - overlap**2)
        method = SufficientStatistics(parameter_count=14)
        bound = method.sensitivity([500]).bound
        distance = moved(method, replaced(base, 17, first, 1.0), replaced(base, 17, second, -sign))
        assert (1 - 1e-8) * bound <= distance <= bound

    def test_the_pair_that_only_flips_the_target_moves_less(self) -> None:
        base = random_table(50, 5, seed=4)
        row = np.eye(5)[0]
        method = SufficientStatistics(parameter_count=5)
        distance = moved(method, replaced(base, 0, row, 1.0), replaced(base, 0, row, -1.0))
        assert distance == pytest.approx(2 * TARGET_WEIGHT, rel=1e-6)

    @pytest.mark.parametrize("counts", [[], [0], [10, -1]])
    def test_needs_owners_with_records(self, counts: list[int]) -> None:
        with pytest.raises(PlanError, match="record_count"):
            SufficientStatistics(parameter_count=3).sensitivity(counts)

    def test_refuses_rows_of_too_many_coordinates(self) -> None:
        SufficientStatistics(parameter_count=LARGEST_ROW_DIMENSION).sensitivity([10])
        with pytest.raises(PlanError, match=r"301 coordinates make 45752 sums .*use at most 300, or"):
            SufficientStatistics(parameter_count=301).sensitivity([10])


class TestContribution:
    @given(tables())
    @settings(max_examples=150)
    def test_is_off_by_no_more_than_the_stated_rounding(self, dataset: Dataset) -> None:
        computed, exact = contribute(dataset).tolist(), exact_contribution(dataset)
        squared = sum(((Fraction(c) - e) ** 2 for c, e in zip(computed, exact, strict=True)), start=Fraction(0))
        assert squared <= Fraction(stated_rounding(dataset.record_count)) ** 2

    def test_is_off_by_no_more_than_the_stated_rounding_on_a_long_table(self) -> None:
        """Equal rows that are no binary fractions: rounding errors of long sums point the same way."""
        dataset = make_table(np.tile([0.1, 0.7, -0.3], (20_000, 1)), np.full(20_000, 0.3))
        exact = [20_000 * value for value in exact_contribution(make_table(dataset.features[:1], np.array([0.3])))]
        computed = contribute(dataset).tolist()
        squared = sum(((Fraction(c) - e) ** 2 for c, e in zip(computed, exact, strict=True)), start=Fraction(0))
        assert 0 < squared <= Fraction(stated_rounding(20_000)) ** 2

    @given(tables())
    @settings(max_examples=100)
    def test_stays_within_its_bound(self, dataset: Dataset) -> None:
        method = SufficientStatistics(parameter_count=dataset.dimension)
        contribution = contribute(dataset)
        assert contribution.shape == (method.dimension,)
        assert np.linalg.norm(contribution) <= method.contribution_bound(dataset.record_count)

    def test_attains_its_bound(self) -> None:
        dataset = make_table(np.tile([0.6, 0.8], (70, 1)), np.ones(70))
        bound = SufficientStatistics(parameter_count=2).contribution_bound(70)
        assert (1 - 1e-8) * bound <= np.linalg.norm(contribute(dataset)) <= bound

    def test_a_row_of_zeros_contributes_nothing(self) -> None:
        dataset = random_table(40, 6, seed=5)
        neighbour = replaced(dataset, 8, np.zeros(6), 0.0)
        without = Dataset(np.delete(dataset.features, 8, axis=0), np.delete(dataset.labels, 8), dataset.class_count)
        np.testing.assert_allclose(contribute(neighbour), contribute(without), rtol=0, atol=1e-13)

    def test_a_table_of_another_dimension_is_refused(self) -> None:
        method = SufficientStatistics(parameter_count=3)
        with pytest.raises(ValueError, match="dimension 2 does not fit a method of 3"):
            method.contribution(random_table(5, 2, seed=0), method.initial_state(), key=bytes(32))

    def test_several_classes_are_refused(self) -> None:
        dataset = Dataset(clip_rows(np.ones((3, 2))), np.array([0.0, 1.0, 2.0]), 3)
        with pytest.raises(ValueError, match="not 3 classes"):
            contribute(dataset)


class TestModel:
    @pytest.mark.parametrize("binary", [False, True])
    def test_without_noise_is_least_squares_for_every_split(self, binary: bool) -> None:
        dataset = random_table(600, 12, seed=6, binary=binary)
        parts = [
            Dataset(dataset.features[start:end].copy(), dataset.labels[start:end].copy(), dataset.class_count)
            for start, end in ((0, 400), (400, 405), (405, 600))
        ]
        model = fit(sum((contribute(part) for part in parts), start=np.zeros(90)), 12)
        expected = np.linalg.lstsq(dataset.features, dataset.labels, rcond=None)[0]
        np.testing.assert_allclose(model, expected, rtol=0, atol=1e-12)

    def test_without_noise_is_the_shortest_solution_where_columns_depend_on_each_other(self) -> None:
        """One-hot columns add up to the bias."""
        rng = np.random.default_rng(7)
        rows = np.concatenate([rng.normal(size=(300, 2)) / 4, np.eye(3)[rng.integers(3, size=300)] / 2], axis=1)
        dataset = make_table(np.concatenate([rows, np.full((300, 1), 0.5)], axis=1), rng.uniform(-1, 1, size=300))
        expected = np.linalg.lstsq(dataset.features, dataset.labels, rcond=None)[0]
        np.testing.assert_allclose(fit(contribute(dataset), 6), expected, rtol=0, atol=1e-12)

    def test_of_nothing_is_zero(self) -> None:
        np.testing.assert_array_equal(fit(np.zeros(9), 3), np.zeros(3))

    def test_is_not_regularized_where_the_table_stands_above_the_noise(self) -> None:
        dataset = random_table(600, 4, seed=8)
        smallest = np.linalg.eigvalsh(dataset.features.T @ dataset.features)[0]
        release = contribute(dataset)
        least_squares = fit(release, 4)
        np.testing.assert_allclose(fit(release, 4, noise_deviation=0.99 * smallest / math.sqrt(8)), least_squares)
        assert not np.allclose(fit(release, 4, noise_deviation=1.1 * smallest / math.sqrt(8)), least_squares, rtol=1e-3)

    def test_is_ridge_regression_that_lifts_the_smallest_eigenvalue_to_the_noise(self) -> None:
        dataset = random_table(600, 5, seed=9)
        gram, targets = dataset.features.T @ dataset.features, dataset.features.T @ dataset.labels
        deviation = 60.0
        regularization = deviation * math.sqrt(10) - np.linalg.eigvalsh(gram)[0]
        assert regularization > 0
        expected = np.linalg.solve(gram + regularization * np.eye(5), targets)
        np.testing.assert_allclose(fit(contribute(dataset), 5, noise_deviation=deviation), expected, rtol=1e-9)

    def test_the_noise_on_the_matrix_has_the_norm_that_the_rule_assumes(self) -> None:
        """Unit noise on the release, undone: a rule or a weight that is off by a third would show."""
        rng = np.random.default_rng(10)
        method = SufficientStatistics(parameter_count=80)
        norms = []
        for _ in range(10):
            matrix, _ = method._normal_equations(rng.normal(size=method.dimension))
            norms.append(float(np.abs(np.linalg.eigvalsh(matrix)).max()))
        assert np.mean(norms) == pytest.approx(math.sqrt(2 * 80), rel=0.08)

    @given(st.lists(st.floats(-1e18, 1e18), min_size=9, max_size=9), st.floats(1e-6, 1e6) | st.just(0.0))
    @settings(max_examples=200)
    def test_is_finite_for_every_release(self, release: list[float], noise_deviation: float) -> None:
        assert np.isfinite(fit(np.array(release), 3, noise_deviation=noise_deviation)).all()


def test_is_a_method_of_one_round() -> None:
    method: Method = SufficientStatistics(parameter_count=14)
    assert (method.rounds, method.parameter_count, method.dimension) == (1, 14, 14 * 15 // 2 + 14)
    state = method.next_state(method.initial_state(), np.ones(119), record_count=5, noise_deviation=1.0)
    assert (state.round_index, state.model.shape) == (1, (14,))


def test_refuses_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="parameter_count is at least 1"):
        SufficientStatistics(parameter_count=0)
