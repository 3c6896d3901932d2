import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpcdp.mpc.backend import Words
from mpcdp.mpc.bit_slicing import LANES, digits_of, integers, lanes, words_of

words = st.integers(-(2**63), 2**63 - 1)


@given(arrays(np.int64, st.tuples(st.integers(0, 64), st.integers(0, 4)), elements=words))
def test_integers_are_the_digits_lane_by_lane(digits: Words) -> None:
    expected = [
        sum((int(digits[bit, word]) >> lane & 1) << bit for bit in range(len(digits)))
        for word in range(digits.shape[1])
        for lane in range(LANES)
    ]
    result = integers(digits)
    assert result.dtype == np.int64
    assert [value % 2**64 for value in result.tolist()] == expected


def test_strided_digits_are_read_too() -> None:
    digits = np.arange(60).reshape(6, 10)
    assert np.array_equal(integers(digits[::2, ::3]), integers(digits[::2, ::3].copy()))


@given(arrays(np.int64, st.integers(0, 4).map(lambda words: 64 * words), elements=words))
def test_digits_undo_integers_and_are_linear(values: Words) -> None:
    digits = digits_of(values)
    assert digits.shape == (64, values.size // 64)
    assert np.array_equal(integers(digits), values)
    share = np.resize(np.array([5, -7, 2**62, -(2**63)]), values.size)
    assert np.array_equal(digits_of(values ^ share) ^ digits_of(share), digits)


@given(arrays(np.int64, st.tuples(st.integers(0, 3), st.integers(0, 4)), elements=words))
def test_lanes_are_the_bits_of_words(bits: Words) -> None:
    opened = lanes(bits)
    assert opened.dtype == np.bool_
    expected = [[int(word) >> lane & 1 for word in row for lane in range(LANES)] for row in bits]
    assert opened.astype(int).tolist() == expected
    assert np.array_equal(words_of(opened), bits)
