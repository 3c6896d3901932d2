"""The gates against integer semantics, in the clear, on inputs the tests choose; and what they cost."""

import numpy as np
import pytest
from backend_contract import RecordingBackend
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scripted_streams import EveryAssignment, FixedWords, fixed_stream

from mpcdp.mpc.backend import Backend, Words
from mpcdp.mpc.noise.circuits import (
    brent_kung_prefix,
    coins,
    first_difference,
    fold,
    ripple_prefix,
    select,
    signed_integers,
)
from mpcdp.mpc.plaintext_backend import PlaintextBackend


def lanes(words: Words) -> NDArray[np.int64]:
    """Unpack words (..., w) to lanes (..., 64 * w)."""
    return ((words[..., np.newaxis] >> np.arange(64)) & 1).reshape(*words.shape[:-1], -1)


def pack(bits: NDArray[np.int64]) -> Words:
    """Pack lanes (..., 64 * w) to words (..., w)."""
    return np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little").view("<i8")


def random_lanes(name: str, *shape: int) -> NDArray[np.int64]:
    """Return fixed random words of shape (..., w)."""
    return fixed_stream(name).words(int(np.prod(shape))).reshape(shape)


def total_ands(backend: RecordingBackend, words: int) -> tuple[int, int]:
    """ANDs per lane and rounds of a recorded circuit."""
    return sum(request.words for request in backend.requests) // words, len(backend.requests)


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 64])
def test_prefix_networks(count: int) -> None:
    # Mostly ones, so that long prefixes are 1 in some lanes.
    words = np.bitwise_or.reduce(random_lanes("prefix", 5, count, 3, 4), axis=0)
    expected = np.bitwise_and.accumulate(words, axis=0)
    ripple, brent_kung = RecordingBackend(PlaintextBackend()), RecordingBackend(PlaintextBackend())
    before = words.copy()
    assert np.array_equal(ripple_prefix(ripple, words), expected)
    assert np.array_equal(brent_kung_prefix(brent_kung, words), expected)
    assert np.array_equal(words, before)
    depth = count.bit_length() - 1
    assert total_ands(ripple, 12) == (count - 1, count - 1)
    assert total_ands(brent_kung, 12) == (2 * count - 2 - depth, max(0, 2 * depth - 1))


def test_brent_kung_refuses_other_lengths() -> None:
    with pytest.raises(ValueError, match="power of two"):
        brent_kung_prefix(PlaintextBackend(), np.zeros((6, 1), dtype=np.int64))


def test_first_difference_is_the_first_zero() -> None:
    agree = lanes(np.bitwise_or.reduce(random_lanes("first", 3, 16, 8), axis=0))
    first = lanes(first_difference(PlaintextBackend(), np.bitwise_and.accumulate(pack(agree), axis=0)))
    for lane in range(agree.shape[1]):
        zeros = np.flatnonzero(agree[:, lane] == 0)
        assert np.flatnonzero(first[:, lane]).tolist() == zeros[:1].tolist()


@pytest.mark.parametrize("precision", [1, 4, 6, 7])
def test_coins_compare_every_random_integer_with_every_threshold(precision: int) -> None:
    for threshold in range(2**precision):
        stream = EveryAssignment(precision)
        coin = coins(PlaintextBackend(stream=stream), [threshold], precision=precision, words=stream.width)
        assert stream.drawn == precision
        # Lanes repeat the 2^precision assignments when these are fewer than 64.
        assert lanes(coin).sum() * 2**precision == threshold * 64 * stream.width


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 63))
def test_a_coin_is_an_unsigned_comparison(threshold: int, randoms: list[int], bit: int) -> None:
    """Drive the circuit with r_i = "bit i of u equals bit i of p" for chosen u, some of them next to p."""
    near = [threshold, threshold ^ 1, threshold ^ (1 << bit), (threshold + 1) % 2**64, (threshold - 1) % 2**64]
    uniforms = [0, 2**64 - 1, *near, *randoms]
    agree = np.zeros((64, 64), dtype=np.int64)
    for lane, uniform in enumerate(uniforms):
        for i in range(64):
            agree[i, lane] = ((uniform ^ threshold) >> (63 - i)) & 1 ^ 1
    blocked = pack(agree).reshape(8, 8, 1).transpose(1, 0, 2)  # drawn as (bit in block, block, word)
    stream = FixedWords(np.ascontiguousarray(blocked))
    coin = lanes(coins(PlaintextBackend(stream=stream), [threshold], precision=64, words=1))[0]
    assert coin[: len(uniforms)].tolist() == [int(uniform < threshold) for uniform in uniforms]


def test_coins_are_independent_of_each_other() -> None:
    """All pairs of outcomes of two coins at lambda = 4 occur as often as independence says."""
    stream = EveryAssignment(8)
    coin = lanes(coins(PlaintextBackend(stream=stream), [5, 11], precision=4, words=stream.width))
    pairs, counts = np.unique(coin, axis=1, return_counts=True)
    expected = {(0, 0): 11 * 5, (0, 1): 11 * 11, (1, 0): 5 * 5, (1, 1): 5 * 11}
    assert {tuple(pair): int(count) for pair, count in zip(pairs.T.tolist(), counts, strict=True)} == expected


def test_coins_cost() -> None:
    backend = RecordingBackend(PlaintextBackend())
    coins(backend, [1, 2, 3], precision=64, words=2)
    assert total_ands(backend, 2) == (3 * 63, 14)


def test_select_is_a_product_over_two_elements() -> None:
    first = random_lanes("select", 10, 4)
    rows = lanes(random_lanes("rows", 3, 5, 1))[..., :10].astype(np.bool_)
    expected = np.einsum("...i,il->...l", rows.astype(np.int64), lanes(first)) % 2
    assert np.array_equal(lanes(select(first, rows)), expected)


def test_fold_selects_lane_by_lane_and_folds_all_tables_in_one_round() -> None:
    tables = [random_lanes("big", 8, 2, 3, 5), random_lanes("small", 2, 1, 3, 5)]
    selectors = [random_lanes("a", 3, 5), random_lanes("b", 3, 5)]
    backend = RecordingBackend(PlaintextBackend())
    folded = fold(backend, tables, selectors)
    for table, selector, result in zip(tables, selectors, folded, strict=True):
        half = len(table) // 2
        expected = np.where(lanes(selector) == 1, lanes(table[half:]), lanes(table[:half]))
        assert np.array_equal(lanes(result), expected)
    assert total_ands(backend, 3 * 5) == (4 * 2 + 1, 1)


@pytest.mark.parametrize("shifts", [(0,), (0, 1), (0, 3, 5)])
def test_signed_integers_are_the_shifted_sum_minus_a_half(shifts: tuple[int, ...]) -> None:
    bits, levels = 4, len(shifts)
    magnitude = random_lanes("magnitude", bits, levels, 8)
    sign = random_lanes("sign", levels, 8)
    backend: Backend = PlaintextBackend(stream=FixedWords(sign))
    k = np.einsum("b,bln->ln", 2 ** np.arange(bits), lanes(magnitude))
    twice_y = np.where(lanes(sign) == 1, -1, 1) * (2 * k + 1)
    twice_sum = (2 ** np.array(shifts)) @ twice_y
    assert np.array_equal(2 * signed_integers(backend, magnitude, shifts) + 1, twice_sum)


@pytest.mark.parametrize("shifts", [(0,), (0, 3, 6, 9, 12, 15, 17)])
def test_signed_integers_reach_both_ends(shifts: tuple[int, ...]) -> None:
    ones = np.full((7, len(shifts), 1), -1)
    largest = (255 * sum(2**shift for shift in shifts) + 1) // 2
    for sign, expected in ((0, largest - 1), (-1, -largest)):
        backend = PlaintextBackend(stream=FixedWords(np.full(len(shifts), sign)))
        assert (signed_integers(backend, ones, shifts) == expected).all()
