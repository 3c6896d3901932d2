"""Rows in the unit ball: the norm bound as real numbers, and what a Dataset refuses and shows."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset, clip_rows


def exact_squared_norm(row: NDArray[np.float64]) -> Fraction:
    """Every finite double is a whole multiple of 2^-1074."""
    ratios = (x.as_integer_ratio() for x in row.tolist())
    total = sum((numerator << 1075 - denominator.bit_length()) ** 2 for numerator, denominator in ratios)
    return Fraction(total, 1 << 2 * 1074)


coordinates = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 5e-324, 1e-160, 1.0, 1 - 2.0**-53, 2.0**-0.5])
matrices = st.integers(1, 12).flatmap(
    lambda d: st.lists(st.lists(coordinates, min_size=d, max_size=d), min_size=1, max_size=6)
)


@given(matrices, st.floats(1e-3, 1e3))
def test_clipped_rows_are_in_the_unit_ball_as_real_numbers(matrix: list[list[float]], radius: float) -> None:
    rows = clip_rows(np.array(matrix), radius=radius)
    assert all(exact_squared_norm(row) <= 1 for row in rows)
    Dataset(rows, np.ones(len(rows)))


@pytest.mark.parametrize("dimension", [2, 3, 123, 4096, 2**18])
def test_rounding_never_lifts_a_row_out_of_the_ball(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    shapes = [np.ones(dimension), rng.normal(size=dimension), 10.0 ** rng.uniform(-8, 8, size=dimension)]
    rows = np.stack([row / np.linalg.norm(row) * length for row in shapes for length in (1 - 2.0**-50, 1.0, 1.7)])
    clipped = clip_rows(rows)
    for row in clipped if dimension <= 4096 else clipped[:1]:
        assert exact_squared_norm(row) <= 1
        assert exact_squared_norm(row) > 1 - Fraction(1, 2**30), "a guard this size would waste sensitivity"
    Dataset(clipped, np.ones(len(clipped)))


@given(matrices, st.data())
@settings(max_examples=50)
def test_a_row_depends_on_itself_alone(matrix: list[list[float]], data: st.DataObject) -> None:
    rows = np.array(matrix)
    index = data.draw(st.integers(0, len(rows) - 1))
    other = rows.copy()
    other[index] = data.draw(st.lists(coordinates, min_size=rows.shape[1], max_size=rows.shape[1]))
    before, after = clip_rows(rows, radius=2.0), clip_rows(other, radius=2.0)
    np.testing.assert_array_equal(np.delete(before, index, axis=0), np.delete(after, index, axis=0))


def test_rows_inside_the_ball_are_only_divided_by_the_radius() -> None:
    rows = np.array([[3.0, 0.0], [0.0, 0.0], [1.5, -2.0]])
    np.testing.assert_array_equal(clip_rows(rows, radius=4.0), rows / 4)


def test_longer_rows_keep_their_direction() -> None:
    np.testing.assert_allclose(clip_rows(np.array([[6.0, 8.0]]), radius=2.0), [[0.6, 0.8]], rtol=1e-9)


def test_a_row_beyond_double_precision_becomes_zero() -> None:
    np.testing.assert_array_equal(clip_rows(np.array([[1e200, 1.0]])), [[0.0, 0.0]])


def test_shows_its_size_and_nothing_else() -> None:
    dataset = Dataset(np.array([[0.123456, 0.5]]), np.array([-1.0]))
    assert repr(dataset) == str(dataset) == "Dataset(<redacted>, record_count=1, dimension=2)"


def test_cannot_be_changed() -> None:
    dataset = Dataset(np.array([[0.1, 0.5]]), np.array([-1.0]))
    for array in (dataset.features, dataset.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0.0


SECRET = 0.7071234567


@pytest.mark.parametrize(
    ("features", "labels", "hint"),
    [
        (np.array([[SECRET, 0.8]]), np.ones(1), "outside the unit ball"),
        (np.array([[1.0, 0.0]]), np.ones(1), "outside the unit ball"),
        (np.array([[np.nan, SECRET]]), np.ones(1), "outside the unit ball or is not finite"),
        (np.array([[1e300, SECRET]]), np.ones(1), "outside the unit ball"),
        (np.array([[0.5]]), np.array([SECRET]), "labels of two classes are -1 or"),
        (np.array([[0.5]]), np.array([np.nan]), "labels of two classes are -1 or"),
        (np.array([[0.5]]), np.array([0.0]), "labels of two classes are -1 or"),
        (np.array([0.5]), np.ones(1), r"\(n, d\)"),
        (np.array([[0.5]]), np.ones(2), r"\(n, d\)"),
        (np.array([[0.5]]), np.ones((1, 1)), r"\(n, d\)"),
        (np.zeros((0, 3)), np.zeros(0), "n, d >= 1"),
        (np.array([[0.5]], dtype=np.float32), np.ones(1), "float64"),
        (np.array([[0.5]]), np.ones(1, dtype=np.int64), "float64"),
    ],
)
def test_refuses_without_quoting_a_record(
    features: NDArray[np.float64], labels: NDArray[np.float64], hint: str
) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        Dataset(features, labels)
    assert "707" not in str(caught.value)


ROWS = np.array([[0.5, 0.1], [0.0, 0.0], [0.2, 0.3]])


@pytest.mark.parametrize(
    ("labels", "class_count"),
    [([-1.0, 1.0, 1.0], 2), ([0.0, 2.0, 1.0], 3), ([0.0, 4.0, 1.0], 5), ([-1.0, 0.37, 1.0], 0)],
)
def test_labels_are_of_two_classes_of_more_or_numbers(labels: list[float], class_count: int) -> None:
    dataset = Dataset(ROWS.copy(), np.array(labels), class_count)
    assert dataset.class_count == class_count
    assert repr(dataset) == "Dataset(<redacted>, record_count=3, dimension=2)"


@pytest.mark.parametrize(
    ("label", "class_count", "hint"),
    [
        (3.0, 3, "whole numbers from 0 to 2"),
        (-1.0, 3, "whole numbers from 0 to 2"),
        (0.707, 3, "whole numbers from 0 to 2"),
        (np.nan, 3, "whole numbers from 0 to 2"),
        (1 + 2.0**-52, 0, r"lie in \[-1, 1\]"),
        (-np.inf, 0, r"lie in \[-1, 1\]"),
        (np.nan, 0, r"lie in \[-1, 1\]"),
        (1.0, 1, "class_count is 0 for numbers, or at least 2, not 1"),
        (1.0, -3, "class_count is 0 for numbers, or at least 2, not -3"),
    ],
)
def test_refuses_labels_of_another_kind(label: float, class_count: int, hint: str) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        Dataset(ROWS.copy(), np.array([1.0, label, 1.0]), class_count)
    assert "707" not in str(caught.value)
