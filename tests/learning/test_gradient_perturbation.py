"""Gradient perturbation: what one record can do, where the steps lead, and what is drawn."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.errors import PlanError
from mpcdp.learning.gradient_perturbation import SAMPLING_STEPS, GradientPerturbation
from mpcdp.learning.linear import LinearModel, MarginResiduals, Residuals, SoftmaxResiduals, SquaredResiduals
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss
from mpcdp.learning.method import TrainingState
from mpcdp.privacy.sensitivity import Norm, Relation
from mpcdp.secret_sharing.randomness import random_key

KEY = bytes(32)
KINDS: dict[str, tuple[Residuals, int]] = {
    "logistic": (MarginResiduals(LogisticLoss()), 2),
    "huber": (MarginResiduals(HuberSvmLoss(0.2)), 2),
    "softmax": (SoftmaxResiduals(3), 3),
    "squared": (SquaredResiduals(), 0),
}
"""Each model's residuals and its class count."""


def make_method(kind: str = "logistic", *, dimension: int = 4, **changes: Any) -> GradientPerturbation:
    model = LinearModel(kind=KINDS[kind][0], dimension=dimension)
    values: dict[str, Any] = {"rounds": 6, "learning_rate": 0.5, "clipping_norm": 0.3, **changes}
    return GradientPerturbation(model=model, **values)


def at(method: GradientPerturbation, point: NDArray[np.float64]) -> TrainingState:
    return replace(method.initial_state(), point=point)


def _labels(count: int, classes: int) -> st.SearchStrategy[NDArray[np.float64]]:
    if classes == 2:
        return npst.arrays(np.float64, count, elements=st.sampled_from([-1.0, 1.0]))
    if classes == 0:
        return npst.arrays(np.float64, count, elements=st.floats(-1, 1))
    return npst.arrays(np.float64, count, elements=st.integers(0, classes - 1).map(float))


_wild = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1, 1) | st.just(0.0)


@st.composite
def neighbours(draw: st.DrawFn, kind: str) -> tuple[Dataset, Dataset, NDArray[np.float64]]:
    """Two tables that differ in one record, and a point that may be anywhere."""
    residuals, classes = KINDS[kind]
    count, dimension = draw(st.integers(1, 6)), 4
    rows = draw(npst.arrays(np.float64, (count + 1, dimension), elements=_wild))
    labels = draw(_labels(count + 1, classes))
    with np.errstate(over="ignore"):
        rows = np.nan_to_num(clip_rows(rows))
    index = draw(st.integers(0, count - 1))
    first = Dataset(rows[:count].copy(), labels[:count].copy(), classes)
    changed, changed_labels = rows[:count].copy(), labels[:count].copy()
    changed[index], changed_labels[index] = rows[count], labels[count]
    point = draw(npst.arrays(np.float64, residuals.outputs * dimension, elements=_wild))
    return first, Dataset(changed, changed_labels, classes), point


class TestSensitivity:
    @pytest.mark.parametrize("kind", KINDS)
    @given(data=st.data())
    @settings(max_examples=150)
    def test_one_record_moves_a_contribution_by_at_most_2_c(self, kind: str, data: st.DataObject) -> None:
        """Wherever the point is; zero, huge and non-finite gradients included."""
        before, after, point = data.draw(neighbours(kind))
        method = make_method(kind, clipping_norm=data.draw(st.floats(1e-6, 1e6)))
        one, other = (method.contribution(table, at(method, point), key=KEY) for table in (before, after))
        assert np.isfinite(one).all()
        difference = math.hypot(*(one - other))
        assert difference <= method.sensitivity([before.record_count]).bound
        assert math.hypot(*one) <= method.contribution_bound(before.record_count)

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_nearly_attained(self, kind: str) -> None:
        """Two records of opposite labels with the same features, far on the wrong side of each other."""
        residuals, classes = KINDS[kind]
        method = make_method(kind, dimension=1)
        row = clip_rows(np.array([[1.0]]))
        first, second = {2: (-1.0, 1.0), 3: (0.0, 1.0), 0: (-1.0, 1.0)}[classes]
        point = np.zeros(residuals.outputs)
        tables = [Dataset(row.copy(), np.array([label]), classes) for label in (first, second)]
        one, other = (method.contribution(table, at(method, point), key=KEY) for table in tables)
        share = {3: 0.85}.get(classes, 0.99)  # two softmax residuals are never quite opposite
        assert np.linalg.norm(one - other) >= share * method.sensitivity([1]).bound

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_other_records_do_not_matter(self, kind: str) -> None:
        """A method that divides by what it finds in the table, such as a batch norm, fails this."""
        rng = np.random.default_rng(3)
        classes = KINDS[kind][1]
        rows = clip_rows(rng.normal(size=(40, 4)))
        labels = {2: rng.choice([-1.0, 1.0], 40), 3: rng.integers(0, 3, 40).astype(float), 0: rng.uniform(-1, 1, 40)}
        table = Dataset(rows, labels[classes], classes)
        method = make_method(kind)
        state = at(method, rng.normal(size=method.parameter_count))
        whole = method.contribution(table, state, key=KEY)
        single = [
            method.contribution(
                Dataset(rows[i : i + 1].copy(), table.labels[i : i + 1].copy(), classes), state, key=KEY
            )
            for i in range(40)
        ]
        np.testing.assert_allclose(whole, np.sum(single, axis=0), rtol=1e-12, atol=1e-13)

    def test_it_is_an_l2_bound_for_a_replaced_record_with_its_rounding(self) -> None:
        method = make_method(clipping_norm=0.25)
        small, large = method.sensitivity([10]), method.sensitivity([10, 2**30])
        assert (small.norm, small.relation) == (Norm.L2, Relation.REPLACE_ONE)
        assert small.bound == pytest.approx(0.5, rel=1e-9)
        # 2^30 records in blocks of 512: sums of 2^21 + 513 terms.
        assert large.bound == pytest.approx(0.5 * (1 + 2**30 * (2**21 + 513) * 2.0**-53), rel=1e-6)
        with pytest.raises(PlanError, match="record"):
            method.sensitivity([])

    def test_the_computed_sum_is_as_close_to_the_true_one_as_stated(self) -> None:
        rng = np.random.default_rng(5)
        count = 20_000
        table = Dataset(clip_rows(rng.normal(size=(count, 3))), rng.choice([-1.0, 1.0], count))
        method = make_method(dimension=3)
        state = at(method, np.array([1.0, -2.0, 0.5]))
        computed = method.contribution(table, state, key=KEY)
        terms = [
            method.contribution(
                Dataset(table.features[i : i + 1].copy(), table.labels[i : i + 1].copy()), state, key=KEY
            )
            for i in range(count)
        ]
        exact = np.array([math.fsum(term[j] for term in terms) for j in range(3)])
        assert np.linalg.norm(computed - exact) <= method.model.summation_error(count) * method.clipping_norm


class TestContribution:
    def test_it_is_the_gradient_of_the_loss_where_nothing_is_clipped(self) -> None:
        rng = np.random.default_rng(1)
        table = Dataset(clip_rows(rng.normal(size=(30, 4))), rng.choice([-1.0, 1.0], 30))
        method = make_method(clipping_norm=10.0)
        point = rng.normal(size=4)

        def risk(theta: NDArray[np.float64]) -> float:
            return float(np.sum(LogisticLoss().value(table.labels * (table.features @ theta))))

        numeric = [(risk(point + 1e-6 * e) - risk(point - 1e-6 * e)) / 2e-6 for e in np.eye(4)]
        np.testing.assert_allclose(method.contribution(table, at(method, point), key=KEY), numeric, rtol=1e-6)

    def test_softmax_gradients_agree_with_those_of_the_loss(self) -> None:
        rng = np.random.default_rng(2)
        table = Dataset(clip_rows(rng.normal(size=(30, 4))), rng.integers(0, 3, 30).astype(float), 3)
        method = make_method("softmax", clipping_norm=10.0)
        point = rng.normal(size=12)

        def risk(theta: NDArray[np.float64]) -> float:
            scores = table.features @ theta.reshape(3, 4).T
            picked = scores[np.arange(30), table.labels.astype(int)]
            return float(np.sum(np.log(np.exp(scores).sum(axis=1)) - picked))

        numeric = [(risk(point + 1e-6 * e) - risk(point - 1e-6 * e)) / 2e-6 for e in np.eye(12)]
        np.testing.assert_allclose(
            method.contribution(table, at(method, point), key=KEY), numeric, rtol=1e-5, atol=1e-7
        )

    def test_a_long_gradient_keeps_its_direction(self) -> None:
        row = clip_rows(np.array([[0.6, 0.8]]))
        method = make_method("squared", dimension=2, clipping_norm=0.1)
        contribution = method.contribution(Dataset(row, np.array([0.5]), 0), at(method, np.array([1e9, 1e9])), key=KEY)
        np.testing.assert_allclose(contribution, [0.06, 0.08], rtol=1e-8)

    def test_a_gradient_that_is_not_finite_counts_as_zero(self) -> None:
        row = clip_rows(np.array([[1.0, 1.0]]))
        method = make_method("squared", dimension=2)
        state = at(method, np.array([1e308, 1e308]))
        np.testing.assert_array_equal(method.contribution(Dataset(row, np.array([0.5]), 0), state, key=KEY), [0, 0])

    def test_a_table_of_another_dimension_is_refused(self) -> None:
        table = Dataset(clip_rows(np.ones((2, 3))), np.ones(2))
        method = make_method()
        with pytest.raises(ValueError, match="dimension 3"):
            method.contribution(table, method.initial_state(), key=KEY)


class TestSampling:
    def test_each_record_is_drawn_with_the_stated_probability_and_each_round_anew(self) -> None:
        count, rate = 200, 0.25
        table = Dataset(clip_rows(np.eye(count)), np.ones(count))
        method = make_method(dimension=count, sampling_rate=rate, clipping_norm=0.1)
        state = method.initial_state()
        drawn = np.array([method.contribution(table, state, key=random_key()) != 0 for _ in range(400)])
        total = int(drawn.sum())  # 80,000 draws: standard deviation 122
        assert abs(total - 20_000) < 5 * 122.5
        # Pairs of records are drawn independently: 0.0625 of all pairs.
        both = float(np.mean(drawn[:, :100] & drawn[:, 100:]))
        assert both == pytest.approx(0.0625, abs=0.008)
        assert np.abs(drawn.mean(axis=0) - rate).max() < 0.12

    def test_the_same_key_draws_the_same_records(self) -> None:
        table = Dataset(clip_rows(np.eye(50)), np.ones(50))
        method = make_method(dimension=50, sampling_rate=0.5)
        state, key = method.initial_state(), random_key()
        first, again = (method.contribution(table, state, key=key) for _ in range(2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, method.contribution(table, state, key=random_key()))

    def test_an_empty_sample_contributes_zeros(self) -> None:
        table = Dataset(clip_rows(np.eye(2)), np.ones(2))
        method = make_method(dimension=2, sampling_rate=1 / SAMPLING_STEPS)
        np.testing.assert_array_equal(method.contribution(table, method.initial_state(), key=KEY), [0.0, 0.0])

    def test_the_divisor_is_public(self) -> None:
        method = make_method(dimension=2, sampling_rate=0.5, learning_rate=1.0, averaging=False)
        state = method.next_state(method.initial_state(), np.array([3.0, 0.0]), record_count=12, noise_deviation=1.0)
        np.testing.assert_allclose(state.point, [-0.5, 0.0])


class TestSteps:
    def test_a_step_goes_against_the_mean_gradient_and_the_regulariser(self) -> None:
        method = make_method(dimension=2, learning_rate=0.1, regularization=0.5, averaging=False)
        state = replace(method.initial_state(), point=np.array([2.0, -4.0]))
        following = method.next_state(state, np.array([10.0, 20.0]), record_count=10, noise_deviation=1.0)
        np.testing.assert_allclose(following.point, [2 - 0.1 * (1 + 1), -4 - 0.1 * (2 - 2)])
        assert following.round_index == 1
        np.testing.assert_array_equal(following.model, following.point)

    def test_momentum_repeats_a_share_of_the_last_step(self) -> None:
        method = make_method(dimension=1, learning_rate=1.0, momentum=0.5, averaging=False)
        state = method.initial_state()
        for release in (4.0, 0.0, 0.0):
            state = method.next_state(state, np.array([release]), record_count=4, noise_deviation=1.0)
        np.testing.assert_allclose(state.point, [-1 - 0.5 - 0.25])

    def test_the_model_is_the_mean_of_the_last_half_of_the_points(self) -> None:
        method = make_method(dimension=1, learning_rate=1.0, rounds=5)
        state, points = method.initial_state(), []
        for release in (5.0, -3.0, 2.0, 7.0, 1.0):
            state = method.next_state(state, np.array([release]), record_count=1, noise_deviation=1.0)
            points.append(state.point[0])
        assert state.model[0] == pytest.approx(np.mean(points[2:]))

    def test_points_stay_in_the_ball(self) -> None:
        method = make_method(dimension=2, learning_rate=1.0, radius=1.0, averaging=False)
        state = method.initial_state()
        for _ in range(3):
            state = method.next_state(state, np.array([-30.0, -40.0]), record_count=1, noise_deviation=1.0)
            assert np.linalg.norm(state.point) <= 1 + 1e-12
        np.testing.assert_allclose(state.point, [0.6, 0.8])

    def test_without_noise_and_clipping_it_finds_the_minimiser(self) -> None:
        features, target = load_breast_cancer(return_X_y=True)
        features = (features - features.mean(axis=0)) / features.std(axis=0)
        rows = clip_rows(np.column_stack([features, np.ones(len(features))]), radius=6.0)
        table = Dataset(rows, np.where(target == 1, 1.0, -1.0))
        method = make_method(
            dimension=31, rounds=4000, learning_rate=4.0, clipping_norm=2.0, regularization=1e-2, averaging=False
        )
        state = method.initial_state()
        for _ in range(method.rounds):
            total = method.contribution(table, state, key=KEY)
            state = method.next_state(state, total, record_count=569, noise_deviation=0.0)
        from sklearn.linear_model import LogisticRegression

        reference = LogisticRegression(C=1 / (569 * 1e-2), fit_intercept=False, tol=1e-10, max_iter=10_000)
        reference.fit(table.features, table.labels)
        np.testing.assert_allclose(state.model, reference.coef_[0], atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"learning_rate": 0.0},
        {"clipping_norm": math.nan},
        {"radius": -1.0},
        {"momentum": 1.0},
        {"regularization": -1.0},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"sampling_rate": 0.1},
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_method(**wrong)
