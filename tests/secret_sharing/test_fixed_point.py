"""The encoding: its sensitivity guarantee, ties included, and no value that makes it fail."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from mpcdp.secret_sharing.fixed_point import FLOAT_EPSILON, Encoding

scales = st.floats(1e-3, 2.0**40, allow_subnormal=False)
floats = st.floats(allow_nan=True, allow_infinity=True)


def exact_norm(values: list[Fraction]) -> float:
    return math.sqrt(sum(value * value for value in values))


def check_guarantee(encoding: Encoding, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """The docstring's bound, for vectors within the public bound, in exact arithmetic but for the last square root."""
    moved = exact_norm([Fraction(int(a)) - int(b) for a, b in zip(encoding.encode(x), encoding.encode(y), strict=True)])
    distance = exact_norm([Fraction(a) - Fraction(b) for a, b in zip(x.tolist(), y.tolist(), strict=True)])
    size = max(exact_norm([Fraction(a) for a in v.tolist()]) for v in (x, y))
    bound = encoding.scale * distance + math.sqrt(x.size) + 2 * encoding.scale * size * FLOAT_EPSILON
    assert moved <= bound * (1 + 1e-14)


@given(st.data(), scales, st.integers(1, 12))
def test_encoding_moves_vectors_apart_by_at_most_the_stated_amount(
    data: st.DataObject, scale: float, dimension: int
) -> None:
    vectors = arrays(np.float64, dimension, elements=st.floats(-100, 100))
    check_guarantee(Encoding(scale, bound=100.0), data.draw(vectors), data.draw(vectors))


@given(st.data(), st.integers(0, 40), st.integers(1, 12))
def test_the_bound_holds_for_adversarial_ties(data: st.DataObject, exponent: int, dimension: int) -> None:
    """All coordinates exactly half-way between two integers, or one unit in the last place to either side."""
    scale = 2.0**exponent
    halves = arrays(np.int64, dimension, elements=st.integers(-(2**20), 2**20))
    nudges = arrays(np.int64, dimension, elements=st.integers(-1, 1))

    def vector() -> NDArray[np.float64]:
        tie = (data.draw(halves) + 0.5) / scale
        return np.asarray(np.nextafter(tie, tie + data.draw(nudges)), dtype=np.float64)

    check_guarantee(Encoding(scale, bound=2.0**21), vector(), vector())


@pytest.mark.parametrize("dimension", [1, 100])
def test_the_rounding_term_is_attained(dimension: int) -> None:
    """Ties go to even: 0.5 to 0 and 1.5 to 2. So sqrt(d) cannot be left out."""
    encoding = Encoding(1.0, bound=10.0)
    x, y = np.full(dimension, 0.5), np.full(dimension, 1.5)
    moved = np.linalg.norm(encoding.encode(y) - encoding.encode(x))
    assert moved == np.linalg.norm(y - x) + math.sqrt(dimension)


def test_the_multiplication_term_is_needed() -> None:
    """At large scales the product's rounding moves coordinates by many units."""
    encoding = Encoding(3.3e17, bound=1.0)
    x = np.array([0.1, 0.3, 0.7, 0.9])
    exact = [Fraction(a) * Fraction(encoding.scale) for a in x.tolist()]
    errors = [abs(int(a) - b) for a, b in zip(encoding.encode(x), exact, strict=True)]
    assert max(errors) > 1
    assert exact_norm(errors) <= 0.5 * 2 + encoding.scale * np.linalg.norm(x) * FLOAT_EPSILON


@given(arrays(np.float64, st.integers(1, 20), elements=floats), scales)
def test_no_value_causes_an_error_or_leaves_the_bound(vector: NDArray[np.float64], scale: float) -> None:
    encoding = Encoding(scale, bound=2.0)
    encoded = encoding.encode(vector)
    assert encoded.dtype == np.int64
    assert encoded.shape == vector.shape
    assert np.abs(encoded).max() <= round(2.0 * scale)
    for value, ring in zip(vector.tolist(), encoded.tolist(), strict=True):
        clipped = 0.0 if math.isnan(value) else min(2.0, max(-2.0, value))
        assert ring == round(clipped * scale)


def test_special_values() -> None:
    vector = np.array([np.nan, -np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324, -0.0])
    assert Encoding(8.0, bound=3.0).encode(vector).tolist() == [0, 0, 24, -24, 24, -24, 0, 0]


def test_the_input_is_left_alone() -> None:
    vector = np.array([np.nan, 7.0])
    Encoding(8.0, bound=3.0).encode(vector)
    assert np.isnan(vector[0])
    assert vector[1] == 7.0


def test_the_largest_encoding_does_not_wrap() -> None:
    encoding = Encoding(2.0**61, bound=1.999)
    assert encoding.encode(np.array([5.0, -5.0])).tolist() == [int(1.999 * 2**61), -int(1.999 * 2**61)]


@given(arrays(np.float64, st.integers(1, 12), elements=st.floats(-10, 10)), scales)
def test_decoding_undoes_encoding_up_to_half_a_unit(vector: NDArray[np.float64], scale: float) -> None:
    encoding = Encoding(scale, bound=10.0)
    error = np.abs(encoding.decode(encoding.encode(vector)) - vector)
    assert (error <= 0.5 / scale * (1 + 1e-9) + 4 * FLOAT_EPSILON * np.abs(vector)).all()


def test_the_offset_is_in_ring_units() -> None:
    assert Encoding(4.0, bound=1.0).decode(np.array([-2, 6]), offset=0.5).tolist() == [-0.375, 1.625]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["scale", "bound"])
def test_arguments_are_positive_and_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"an encoding's {name}"):
        Encoding(**{"scale": 1.0, "bound": 1.0, name: value})


@pytest.mark.parametrize(("scale", "bound"), [(2.0**61, 2.0), (1e300, 1e300)])
def test_encodings_that_could_overflow_are_refused(scale: float, bound: float) -> None:
    with pytest.raises(ValueError, match="do not fit 2\\^62"):
        Encoding(scale, bound=bound)
