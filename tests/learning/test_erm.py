"""The solver's certificate, against gradients in exact arithmetic, on ordinary and on adversarial tables."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mpf
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.learning import erm
from mpcdp.learning.erm import CertifiedSolver
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss, Loss

LOSSES: list[Loss] = [LogisticLoss(), HuberSvmLoss(0.5), HuberSvmLoss(0.05)]
KINDS = ("random", "separable", "one row repeated", "contradictory", "axes", "sparse", "nearly parallel", "zeros")


def make_table(kind: str, record_count: int, dimension: int, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(record_count, dimension))
    labels = rng.choice([-1.0, 1.0], size=record_count)
    if kind == "separable":
        rows[:, 0] += labels * np.abs(rows[:, 0]).max()
    elif kind == "one row repeated":
        rows, labels = np.repeat(rows[:1], record_count, axis=0), np.ones(record_count)
    elif kind == "contradictory":
        rows = np.repeat(rows[:1], record_count, axis=0)
    elif kind == "axes":
        rows = np.eye(dimension)[rng.integers(0, dimension, record_count)]
    elif kind == "sparse":
        rows = (rng.random((record_count, dimension)) < 0.1) * 10.0 ** rng.integers(-8, 1, (record_count, dimension))
    elif kind == "nearly parallel":
        rows = 1 + 1e-9 * rows
    elif kind == "zeros":
        rows = np.zeros_like(rows)
    return Dataset(clip_rows(rows), labels)


def make_solver(loss: Loss, regularization: float, dataset: Dataset, certificate: float = 1e-9) -> CertifiedSolver:
    """Make a solver whose certificate is the given one or, where that is below the floor, the floor itself."""
    solver = CertifiedSolver(loss=loss, regularization=regularization, certificate=certificate)
    floor = solver.certificate_floor(record_count=dataset.record_count, dimension=dataset.dimension)
    return CertifiedSolver(loss=loss, regularization=regularization, certificate=max(certificate, floor))


def exact_derivative(loss: Loss, margin: Fraction) -> Fraction:
    """Return l' as a rational number: exact for the Huber loss, to 60 digits for the logistic loss."""
    if isinstance(loss, HuberSvmLoss):
        width = Fraction(loss.width)
        return -min(Fraction(1), max(Fraction(0), (1 + width - margin) / (2 * width)))
    with mpmath.workdps(60):
        value = mpf(-1) / (1 + mpmath.exp(mpf(margin.numerator) / margin.denominator))
        return Fraction(int(mpmath.nint(value * mpf(2) ** 190)), 2**190)


def exact_gradient(solver: CertifiedSolver, dataset: Dataset, theta: NDArray[np.float64]) -> list[Fraction]:
    parameters = [Fraction(float(t)) for t in theta]
    total = [Fraction(0)] * dataset.dimension
    for row, label in zip(dataset.features.tolist(), dataset.labels.tolist(), strict=True):
        x = [Fraction(entry) for entry in row]
        sign = int(label)
        margin = sign * sum((a * b for a, b in zip(x, parameters, strict=True)), start=Fraction(0))
        slope = exact_derivative(solver.loss, margin) * sign
        total = [t + slope * entry for t, entry in zip(total, x, strict=True)]
    strength = Fraction(solver.regularization)
    return [t / dataset.record_count + strength * p for t, p in zip(total, parameters, strict=True)]


def squared_norm(vector: list[Fraction]) -> Fraction:
    return sum((x * x for x in vector), start=Fraction(0))


def assert_certified(solver: CertifiedSolver, dataset: Dataset, theta: NDArray[np.float64]) -> None:
    assert squared_norm(exact_gradient(solver, dataset, theta)) <= Fraction(solver.certificate) ** 2
    assert squared_norm([Fraction(float(t)) for t in theta]) <= Fraction(solver.radius) ** 2


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("regularization", [1e-5, 1e-3, 0.3])
def test_the_certificate_holds_in_exact_arithmetic(loss: Loss, kind: str, regularization: float) -> None:
    for record_count, dimension in ((1, 1), (1, 5), (60, 4)):
        dataset = make_table(kind, record_count, dimension)
        solver = make_solver(loss, regularization, dataset)
        assert_certified(solver, dataset, solver.solve(dataset))


@pytest.mark.parametrize("loss", [LogisticLoss(), HuberSvmLoss(0.5)], ids=repr)
def test_the_certificate_holds_when_sums_span_blocks(loss: Loss) -> None:
    dataset = make_table("random", 1500, 3)
    solver = make_solver(loss, 1e-3, dataset)
    assert_certified(solver, dataset, solver.solve(dataset))


entries = st.floats(-2, 2) | st.sampled_from([0.0, 1.0, -1.0, 1e-8, -1e-160, 5e-324])


@st.composite
def tables(draw: st.DrawFn) -> Dataset:
    dimension = draw(st.integers(1, 3))
    row = st.lists(entries, min_size=dimension, max_size=dimension)
    rows = draw(st.lists(row, min_size=1, max_size=8))
    labels = draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(rows), max_size=len(rows)))
    return Dataset(clip_rows(np.array(rows)), np.array(labels))


@given(tables(), st.sampled_from(LOSSES), st.sampled_from([1e-4, 1e-2, 1.0, 100.0]))
@settings(max_examples=150)
def test_no_table_defeats_the_solver(dataset: Dataset, loss: Loss, regularization: float) -> None:
    solver = make_solver(loss, regularization, dataset)
    assert_certified(solver, dataset, solver.solve(dataset))


# --- how long it takes ------------------------------------------------------------------------------------------------

NARROW = [HuberSvmLoss(width) for width in (0.015, 0.00287, 0.001)]


def make_search(solver: CertifiedSolver, dataset: Dataset) -> erm._Search:
    error = solver.gradient_error(record_count=dataset.record_count, dimension=dataset.dimension)
    return erm._Search(solver, dataset, solver.certificate - error)


def flip_label(dataset: Dataset, index: int) -> Dataset:
    labels = dataset.labels.copy()
    labels[index] *= -1
    return Dataset(dataset.features, labels)


@pytest.fixture(name="gradients")
def _gradients(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count gradient evaluations in its only element."""
    count, original = [0], erm._Search.gradient

    def counting(self: erm._Search, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        count[0] += 1
        return original(self, theta)

    monkeypatch.setattr(erm._Search, "gradient", counting)
    return count


@given(tables(), st.sampled_from([*LOSSES, *NARROW]), st.sampled_from([3e-3, 0.2, 30.0]))
@settings(max_examples=60)
def test_descent_alone_meets_the_certificate_within_its_public_number_of_steps(
    dataset: Dataset, loss: Loss, regularization: float
) -> None:
    """What `solve` falls back on when Newton's method stalls, at the floor itself."""
    solver = make_solver(loss, regularization, dataset, certificate=1e-300)
    assert_certified(solver, dataset, make_search(solver, dataset).descend())


@pytest.mark.parametrize("loss", [*LOSSES, *(pytest.param(loss, marks=pytest.mark.slow) for loss in NARROW)], ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_descent_alone_meets_the_certificate_on_larger_adversarial_tables(loss: Loss, kind: str) -> None:
    for record_count, dimension, regularization in ((120, 60, 1e-3), (40, 2, 1e-4), (700, 5, 1e-2)):
        dataset = make_table(kind, record_count, dimension)
        solver = make_solver(loss, regularization, dataset)
        search = make_search(solver, dataset)
        theta = search.descend()
        assert search.accepts(theta, search.gradient(theta))


def test_descent_s_number_of_steps_is_not_vacuous(gradients: list[int]) -> None:
    """A quarter of it is needed by some table: a bound too small by a factor would show above, too large here."""
    solver = CertifiedSolver(loss=LogisticLoss(), regularization=1e-3, certificate=1e-9)
    make_search(solver, make_table("separable", 120, 60)).descend()
    assert solver.descent_steps / 4 < gradients[0] <= solver.descent_steps


def test_solve_falls_back_on_descent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erm._Search, "newton", lambda self, steps: np.full(self.dataset.dimension, np.inf))
    dataset = make_table("random", 50, 4)
    solver = make_solver(LogisticLoss(), 0.01, dataset)
    assert_certified(solver, dataset, solver.solve(dataset))


@pytest.mark.parametrize("loss", [*LOSSES, *NARROW], ids=repr)
@pytest.mark.parametrize("regularization", [1e-2, 1e-4])
def test_newton_s_method_does_not_need_the_fallback(
    loss: Loss, regularization: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Descent would be right, but slower."""

    def forbidden(*_: object) -> None:
        raise AssertionError("Newton's method stalled")

    monkeypatch.setattr(erm._Search, "descend", forbidden)
    for kind in KINDS:
        for record_count, dimension in ((5, 3), (50, 25), (120, 60), (200, 10)):
            for seed in range(2):
                dataset = make_table(kind, record_count, dimension, seed)
                make_solver(loss, regularization, dataset).solve(dataset)


@pytest.mark.parametrize("loss", [*LOSSES, *NARROW], ids=repr)
def test_one_label_hardly_changes_how_long_training_takes(loss: Loss, gradients: list[int]) -> None:
    """Else one record would decide whether an owner joins in time."""

    def evaluations(dataset: Dataset) -> int:
        gradients[0] = 0
        make_solver(loss, 1.87e-4, dataset).solve(dataset)
        return gradients[0]

    for kind in ("random", "separable", "contradictory", "nearly parallel"):
        for seed in range(2):
            dataset = make_table(kind, 120, 60, seed)
            here = evaluations(dataset)
            flipped = [evaluations(flip_label(dataset, index)) for index in range(0, 120, 20)]
            assert max(here, *flipped) <= 4 * min(here, *flipped) + 10


def test_the_work_of_both_phases_stays_within_its_bound(monkeypatch: pytest.MonkeyPatch, gradients: list[int]) -> None:
    """Newton's method, made to stall, gives up after its public number of steps and leaves descent its own."""
    monkeypatch.setattr(erm._Search, "_step_length", lambda *_: 0.0)
    for record_count, dimension in ((120, 60), (2000, 3)):
        counts = {"record_count": record_count, "dimension": dimension}
        dataset = make_table("random", record_count, dimension)
        solver = make_solver(HuberSvmLoss(0.01), 1e-3, dataset)
        gradients[0] = 0
        assert_certified(solver, dataset, solver.solve(dataset))
        newton = solver.newton_steps(**counts)
        assert newton < gradients[0] <= newton + 1 + solver.descent_steps
        # A Newton step's dominant products, at an eighth: the matrices are multiplied block by block.
        products = (
            newton * record_count * dimension * (4 + dimension / 8) + 2 * solver.descent_steps * dataset.features.size
        )
        assert products <= solver.worst_case_operations(**counts)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_computed_gradients_err_by_less_than_the_bound(loss: Loss, kind: str) -> None:
    """Anywhere in the ball, worst at its rim, where margins are largest and cancel most."""
    rng = np.random.default_rng(7)
    for record_count, dimension, regularization in ((3, 40, 1e-3), (700, 2, 1e-5), (40, 7, 1.0)):
        dataset = make_table(kind, record_count, dimension)
        solver = make_solver(loss, regularization, dataset)
        error = solver.gradient_error(record_count=record_count, dimension=dimension)
        search = erm._Search(solver, dataset, solver.certificate)
        direction = rng.normal(size=dimension)
        along = direction / np.linalg.norm(direction)
        across = along - dataset.features[0] * (along @ dataset.features[0])  # margins near 0 by cancellation
        for theta in (along, across, np.eye(dimension)[0], 1e-3 * along):
            theta = theta * (solver.radius * (1 - 1e-12) / max(1.0, float(np.linalg.norm(theta))))
            computed = [Fraction(float(g)) for g in search.gradient(theta)]
            exact = exact_gradient(solver, dataset, theta)
            difference = [a - b for a, b in zip(computed, exact, strict=True)]
            assert squared_norm(difference) <= Fraction(error) ** 2


def test_the_error_bound_is_not_vacuous() -> None:
    """At the sizes of the paper's experiment the floor costs less than a thousandth of the sensitivity."""
    solver = CertifiedSolver(loss=LogisticLoss(), regularization=1e-3, certificate=1e-9)
    floor = solver.certificate_floor(record_count=50_000, dimension=122)
    assert 50_000 * floor < 1e-3 * solver.loss.lipschitz


@given(
    st.sampled_from(LOSSES), st.floats(1e-4, 10), st.integers(1, 10**6), st.integers(1, 5000), st.floats(1e-12, 1e-2)
)
def test_the_floor_is_where_descent_begins_to_suffice(
    loss: Loss, regularization: float, record_count: int, dimension: int, certificate: float
) -> None:
    counts = {"record_count": record_count, "dimension": dimension}
    solver = CertifiedSolver(loss=loss, regularization=regularization, certificate=certificate)
    floor = solver.certificate_floor(**counts)
    if floor > 1:
        return  # no useful certificate exists
    at_floor = CertifiedSolver(loss=loss, regularization=regularization, certificate=floor)
    assert at_floor.certificate_floor(**counts) == floor
    # The module's requirement, written out term by term, with half of tau for the limit and half for the steps.
    error, smoothness, radius = at_floor.gradient_error(**counts), at_floor.smoothness, at_floor.radius
    share = np.sqrt(regularization / smoothness)
    longest_step = (loss.lipschitz + regularization * radius + error) * share / regularization
    rounding = 16 * 2.0**-53 * (radius + longest_step)
    moved = rounding + (dimension + 16) * 2.0**-53 * radius
    inexact = 4 * share * (error + smoothness * rounding) / np.sqrt(2 * regularization)
    limit = (inexact + 2 * (np.sqrt(smoothness / 2) * rounding + 2 * np.sqrt(regularization / 2) * moved)) / share
    assert np.sqrt(10 * smoothness) * limit + smoothness * rounding + 2 * error <= floor / 2
    shrinkage = (1 - share / 2) ** at_floor.descent_steps
    assert np.sqrt(10 * smoothness * loss.at_zero) * shrinkage <= floor / 2


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_minimisers_lie_in_the_ball(loss: Loss) -> None:
    """Both arms of the radius, with margin: a radius that forgot one would be exceeded or be far too large."""
    for regularization in (1e-4, 1e-2, 10.0):
        norms = []
        for kind in KINDS:
            dataset = make_table(kind, 40, 3)
            solver = make_solver(loss, regularization, dataset)
            norms.append(float(np.linalg.norm(solver.solve(dataset))))
        assert max(norms) <= solver.radius
    assert solver.radius < 0.11, "at a large regularisation G / lambda is the smaller arm"


def test_a_certificate_below_the_floor_is_refused_before_looking_at_a_record() -> None:
    dataset = make_table("random", 10, 3)
    solver = CertifiedSolver(loss=LogisticLoss(), regularization=1e-3, certificate=1e-13)
    with pytest.raises(ValueError, match="below the floor"):
        solver.solve(dataset)


@pytest.mark.parametrize("name", ["regularization", "certificate"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_refuses_arguments_out_of_range(name: str, value: float) -> None:
    arguments = {"regularization": 1e-3, "certificate": 1e-8} | {name: value}
    with pytest.raises(ValueError, match=name):
        CertifiedSolver(loss=LogisticLoss(), **arguments)
