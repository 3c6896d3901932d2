import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpcdp.mpc.backend import Words
from mpcdp.mpc.bit_slicing import LANES, integers

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
