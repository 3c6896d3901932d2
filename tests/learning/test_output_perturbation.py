"""Output perturbation: its contribution, its bounds, and that no neighbouring pair exceeds the sensitivity."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbours import hard_replacements, moved, replace_record, worst_case_pair
from sklearn.datasets import load_breast_cancer

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.errors import PlanError
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss, Loss
from mpcdp.learning.method import Method
from mpcdp.learning.output_perturbation import OutputPerturbation
from mpcdp.plan import make_plan
from mpcdp.privacy.sensitivity import Norm, Relation
from mpcdp.task import load_task

LOSSES: list[Loss] = [LogisticLoss(), HuberSvmLoss(0.5)]


def make_method(
    loss: Loss | None = None, *, regularization: float = 1e-2, certificate: float = 1e-8, dimension: int = 31
) -> OutputPerturbation:
    return OutputPerturbation(
        loss=loss or LogisticLoss(), regularization=regularization, certificate=certificate, dimension=dimension
    )


@pytest.fixture(scope="module")
def breast_cancer() -> Dataset:
    table = load_breast_cancer()
    lower, upper = table.data.min(axis=0), table.data.max(axis=0)
    scaled = 2 * (table.data - lower) / (upper - lower) - 1
    rows = np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)
    return Dataset(clip_rows(rows, radius=4.0), np.where(table.target == 1, 1.0, -1.0))


def split(dataset: Dataset, sizes: list[int]) -> list[Dataset]:
    """Cut a table into consecutive owners' tables."""
    ends = np.cumsum(sizes)
    return [
        Dataset(dataset.features[end - size : end].copy(), dataset.labels[end - size : end].copy())
        for size, end in zip(sizes, ends, strict=True)
    ]


class TestSensitivity:
    @pytest.mark.parametrize("loss", LOSSES, ids=repr)
    def test_is_two_lipschitz_constants_over_lambda_plus_what_inexactness_adds(self, loss: Loss) -> None:
        method = make_method(loss, regularization=1e-3, certificate=1e-7)
        sensitivity = method.sensitivity([300, 5000, 40])
        assert sensitivity.norm is Norm.L2
        assert sensitivity.relation is Relation.REPLACE_ONE
        inexact = 5000 * (2 * 1e-7 / 1e-3 + 2 * 2.0**-53 * method.contribution_bound(1))
        assert sensitivity.bound >= 2 / 1e-3 + inexact
        assert sensitivity.bound == pytest.approx(2 / 1e-3 + inexact, rel=1e-10)

    def test_does_not_depend_on_the_split_except_through_the_certificate(self) -> None:
        method = make_method(certificate=1e-9)
        even, uneven = method.sensitivity([500] * 4), method.sensitivity([1997, 1, 1, 1])
        assert even.bound == pytest.approx(uneven.bound, rel=1e-5)
        paper = 2 * 2000 / (4 * 1 * 1e-2)  # N times the paper's 2 G / (m n_(1) lambda), for the uneven split
        assert uneven.bound < paper / 499

    @pytest.mark.parametrize("loss", LOSSES, ids=repr)
    @pytest.mark.parametrize("regularization", [1e-3, 1e-2])
    def test_is_never_exceeded_on_neighbouring_tables(
        self, loss: Loss, regularization: float, breast_cancer: Dataset
    ) -> None:
        method = make_method(loss, regularization=regularization, certificate=1e-7)
        rng = np.random.default_rng(0)
        ratios = []
        for sizes in ([569], [400, 100, 69], [200, 190, 179], [500, 60, 5, 4]):
            bound = method.sensitivity(sizes).bound
            for owner in split(breast_cancer, sizes):
                theta = method.contribution(owner, method.initial_state(), key=bytes(32)) / owner.record_count
                for dataset, neighbour in hard_replacements(owner, theta, breast_cancer, rng):
                    ratios.append(moved(method, dataset, neighbour) / bound)
        assert len(ratios) >= 100
        assert max(ratios) <= 1
        assert max(ratios) > 0.3, "the pairs were too tame to test anything"

    @pytest.mark.parametrize("loss", LOSSES, ids=repr)
    @given(data=st.data())
    @settings(max_examples=60)
    def test_is_never_exceeded_on_arbitrary_small_tables(self, loss: Loss, data: st.DataObject) -> None:
        record_count = data.draw(st.integers(1, 6))
        row = st.lists(st.floats(-1, 1), min_size=2, max_size=2)
        signs = st.sampled_from([-1.0, 1.0])
        rows = data.draw(st.lists(row, min_size=record_count, max_size=record_count))
        labels = data.draw(st.lists(signs, min_size=record_count, max_size=record_count))
        dataset = Dataset(clip_rows(np.array(rows)), np.array(labels))
        index = data.draw(st.integers(0, record_count - 1))
        neighbour = replace_record(dataset, index, np.array(data.draw(row)), data.draw(signs))
        method = make_method(loss, regularization=data.draw(st.sampled_from([1e-3, 0.1, 3.0])), dimension=2)
        assert moved(method, dataset, neighbour) <= method.sensitivity([record_count]).bound

    @pytest.mark.parametrize(
        ("loss", "lean", "attained"), [(LogisticLoss(), 0.4, 0.80), (HuberSvmLoss(0.5), 0.0, 0.999)], ids=repr
    )
    def test_is_attained_by_a_constructed_pair(self, loss: Loss, lean: float, attained: float) -> None:
        """So a bound too small by a fifth (a tenth of a percent, for the Huber loss), or much too large, would show."""
        method = make_method(loss, regularization=1e-3, certificate=1e-8, dimension=5)
        bound = method.sensitivity([5000]).bound
        assert attained * bound <= moved(method, *worst_case_pair(5000, 5, lean=lean)) <= bound

    @pytest.mark.parametrize("counts", [[], [0], [10, -1]])
    def test_needs_owners_with_records(self, counts: list[int]) -> None:
        with pytest.raises(PlanError, match="record_count"):
            make_method().sensitivity(counts)


class TestCertificate:
    @pytest.mark.parametrize("loss", [*LOSSES, HuberSvmLoss(0.01)], ids=repr)
    @pytest.mark.parametrize("regularization", [1e-4, 1e-2, 1.0])
    def test_below_the_floor_is_refused_with_one_that_works(self, loss: Loss, regularization: float) -> None:
        method = make_method(loss, regularization=regularization, certificate=1e-15)
        with pytest.raises(PlanError, match="below what double precision can prove for 5000 records") as caught:
            method.sensitivity([10, 5000])
        advised = float(str(caught.value).split("at least ")[1].split(" ")[0])
        make_method(loss, regularization=regularization, certificate=advised).check([10, 5000])
        with pytest.raises(PlanError):
            make_method(loss, regularization=regularization, certificate=advised / 1.2).check([10, 5000])

    def test_where_none_works_only_the_regularization_is_blamed(self) -> None:
        method = make_method(HuberSvmLoss(1e-3), regularization=1e-9)
        with pytest.raises(PlanError, match="; use a larger regularization"):
            method.check([1000])

    def test_accepted_ones_never_fail_later(self, breast_cancer: Dataset) -> None:
        counts = {"record_count": breast_cancer.record_count, "dimension": breast_cancer.dimension}
        for loss in LOSSES:
            solver = CertifiedSolver(loss=loss, regularization=1e-3, certificate=1.0)
            method = make_method(loss, regularization=1e-3, certificate=solver.certificate_floor(**counts))
            method.check([breast_cancer.record_count])
            method.contribution(breast_cancer, method.initial_state(), key=bytes(32))


class TestTraining:
    """That it ends in time is public: what could be slow for some table is refused for all."""

    @pytest.mark.parametrize(
        ("method", "record_count"),
        [
            (make_method(HuberSvmLoss(0.001), regularization=1e-3, certificate=1e-3, dimension=122), 50_000),
            (make_method(regularization=1e-4, certificate=1e-7, dimension=122), 500_000),
        ],
    )
    def test_that_could_be_slow_is_refused(self, method: OutputPerturbation, record_count: int) -> None:
        method.check([10])
        with pytest.raises(PlanError, match=r"model\.regularization: .* use a larger regularization or, .*huber_width"):
            method.check([10, record_count])
        replace(method, regularization=0.5).check([10, record_count])

    @pytest.mark.parametrize("record_count", [50, 5000, 50_000])
    def test_of_the_usual_sizes_is_accepted(self, record_count: int) -> None:
        make_method(regularization=1e-3, certificate=1e-8, dimension=122).check([record_count])

    def test_of_the_sample_task_is_accepted(self) -> None:
        make_plan(load_task(Path(__file__).parents[2] / "parties" / "task.toml"))


class TestContribution:
    @pytest.mark.parametrize("loss", LOSSES, ids=repr)
    @pytest.mark.parametrize("regularization", [1e-3, 1.0, 50.0])
    def test_stays_within_its_bound(self, loss: Loss, regularization: float, breast_cancer: Dataset) -> None:
        method = make_method(loss, regularization=regularization)
        assert np.linalg.norm(
            method.contribution(breast_cancer, method.initial_state(), key=bytes(32))
        ) <= method.contribution_bound(breast_cancer.record_count)

    def test_bound_has_both_arms(self) -> None:
        weak, strong = make_method(regularization=1e-3), make_method(regularization=50.0)
        assert weak.contribution_bound(7) == pytest.approx(7 * math.sqrt(2 * math.log(2) / 1e-3), rel=1e-4)
        assert strong.contribution_bound(7) == pytest.approx(7 / 50.0, rel=1e-4)

    def test_bound_is_attained_up_to_a_factor(self) -> None:
        """Records that all agree drive theta out: the bound is of the right size, not only large enough."""
        dataset = Dataset(clip_rows(np.tile([1.0, 0.0], (50, 1))), np.ones(50))
        method = make_method(HuberSvmLoss(0.1), regularization=1.0, dimension=2)
        assert np.linalg.norm(
            method.contribution(dataset, method.initial_state(), key=bytes(32))
        ) > 0.9 * method.contribution_bound(50)

    def test_is_the_minimiser_weighted_by_the_record_count(self, breast_cancer: Dataset) -> None:
        method = make_method()
        contribution = method.contribution(breast_cancer, method.initial_state(), key=bytes(32))
        assert contribution.dtype == np.float64
        assert contribution.shape == (31,)
        solver = CertifiedSolver(loss=LogisticLoss(), regularization=1e-2, certificate=1e-8)
        np.testing.assert_allclose(contribution, 569 * solver.solve(breast_cancer), rtol=1e-12)

    def test_ignores_state_and_key(self, breast_cancer: Dataset) -> None:
        method = make_method()
        poisoned = replace(method.initial_state(), point=np.full(31, np.nan))
        np.testing.assert_array_equal(
            method.contribution(breast_cancer, poisoned, key=bytes(range(32))),
            method.contribution(breast_cancer, method.initial_state(), key=bytes(32)),
        )

    def test_agrees_with_an_independent_solver(self, breast_cancer: Dataset) -> None:
        from sklearn.linear_model import LogisticRegression

        count, regularization = breast_cancer.record_count, 1e-2
        reference = LogisticRegression(C=1 / (count * regularization), fit_intercept=False, tol=1e-10, max_iter=10_000)
        reference.fit(breast_cancer.features, breast_cancer.labels)
        method = make_method(regularization=regularization)
        ours = method.contribution(breast_cancer, method.initial_state(), key=bytes(32)) / count
        np.testing.assert_allclose(ours, reference.coef_[0], atol=1e-5)

    def test_a_table_of_another_dimension_is_refused(self, breast_cancer: Dataset) -> None:
        method = make_method(dimension=30)
        with pytest.raises(ValueError, match="dimension 31"):
            method.contribution(breast_cancer, method.initial_state(), key=bytes(32))


def test_the_next_model_is_the_average_over_records(breast_cancer: Dataset) -> None:
    method: Method = make_method(regularization=1e-3)
    assert (method.rounds, method.dimension) == (1, 31)
    owners = split(breast_cancer, [400, 169])
    release = sum(
        (method.contribution(owner, method.initial_state(), key=bytes(32)) for owner in owners), start=np.zeros(31)
    )
    state = method.next_state(method.initial_state(), release, record_count=569, noise_deviation=0.0)
    model = state.model
    assert (state.round_index, method.parameter_count) == (1, 31)
    agreement = np.mean(np.sign(breast_cancer.features @ model) == breast_cancer.labels)
    assert agreement > 0.9
    np.testing.assert_allclose(model * 569, release)


@pytest.mark.parametrize(
    "arguments",
    [{"dimension": 0}, {"regularization": 0.0}, {"certificate": math.nan}, {"certificate": -1e-9}],
    ids=repr,
)
def test_refuses_arguments_out_of_range(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        make_method(**arguments)  # type: ignore[arg-type]
