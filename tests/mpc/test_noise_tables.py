"""The public tables: exact weights, correct rounding, ladders of exactly the right variance."""

import hashlib
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.mpc.noise.tables import (
    LAYOUT,
    REAL,
    Ladder,
    Level,
    gaussian_tables,
    geometric_digits,
    half_gaussian,
    knuth_yao,
    ladder,
)


@st.composite
def draws(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Weights of a Knuth-Yao draw, its precision and its slot bits; as many outcomes as are allowed included."""
    slot_bits = draw(st.integers(0, 4))
    precision = draw(st.integers(1, 64))
    slots, total = 2**slot_bits, 2 ** (slot_bits + precision)
    outcomes = draw(st.integers(1, slots + 1))
    cuts = sorted(draw(st.lists(st.integers(slots, total), min_size=outcomes - 1, max_size=outcomes - 1)))
    ends = [0, *cuts, total]
    return [high - low for low, high in pairwise(ends)], precision, slot_bits


@given(draws())
def test_knuth_yao_gives_each_outcome_exactly_its_weight(case: tuple[list[int], int, int]) -> None:
    weights, precision, slot_bits = case
    tosses = knuth_yao(weights, precision=precision, slot_bits=slot_bits)
    assert [len(row) for row in tosses] == [2**slot_bits] * precision
    assert drawn_weights(tosses, len(weights)) == weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([8, 7], "do not make a draw"),  # the sum is not 16
        ([0, 16], "do not make a draw"),  # outcome 0 cannot absorb "no head"
        ([6, 5, 5], "1 slots are too few for these 3 weights"),
    ],
)
def test_knuth_yao_refuses(weights: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        knuth_yao(weights, precision=4, slot_bits=0)


@given(draws(), st.integers(1, 3))
def test_knuth_yao_with_fewer_slots_is_right_or_refuses(case: tuple[list[int], int, int], missing: int) -> None:
    weights, precision, slot_bits = case
    slot_bits, precision = max(0, slot_bits - missing), precision + min(missing, slot_bits)
    try:
        tosses = knuth_yao(weights, precision=precision, slot_bits=slot_bits)
    except ValueError:
        # At some toss, more than a slot's weight is left over of so many outcomes that the slots cannot be filled.
        sizes = [1 << (precision - 1 - toss) for toss in range(precision)]
        left = [weights[0] - 2**slot_bits, *weights[1:]]
        assert any(sum(weight % size for weight in left) > (size - 1) * 2**slot_bits for size in sizes)
    else:
        assert drawn_weights(tosses, len(weights)) == weights


def drawn_weights(tosses: list[list[int]], outcomes: int) -> list[int]:
    """Add up the slots of each outcome."""
    weights = [0] * outcomes
    weights[0] = len(tosses[0])  # no head at all
    for toss, row in enumerate(tosses):
        for outcome in row:
            weights[outcome] += 2 ** (len(tosses) - 1 - toss)
    return weights


@pytest.mark.parametrize("scale", [1, 5, 2**20, 2**32])
def test_digits_that_are_cut_off_are_too_rare(scale: int) -> None:
    tables = geometric_digits(scale)
    assert [table.place for table in tables] == list(range(0, 3 * len(tables), 3))
    missing = REAL.exp(-REAL.mpf(2 ** (3 * len(tables))) / scale)
    assert missing <= REAL.mpf(2) ** -64 < REAL.exp(-REAL.mpf(2 ** (3 * len(tables) - 3)) / scale)


@pytest.mark.parametrize("spare", [0, 1])
def test_coefficients_are_the_digits_as_polynomials(spare: int) -> None:
    for draw in (
        *half_gaussian(Fraction(9), precision=12, layout=(3, 2, 1), spare=spare).draws,
        *geometric_digits(5)[0].draws,
    ):
        assert draw.coefficients.shape == draw.digits.shape
        for x, digits in enumerate(draw.digits):
            subsets = [m for m in range(len(draw.digits)) if m & ~x == 0]
            assert np.array_equal(digits, np.bitwise_xor.reduce(draw.coefficients[subsets], axis=0))


def test_conditional_probabilities_are_rounded_to_the_nearest_unit() -> None:
    """Against double precision, at a precision where it suffices to tell which integer is nearest."""
    precision, bits = 16, 5
    table = half_gaussian(Fraction(9), precision=precision, layout=(1,) * bits)
    mass = np.exp(-((np.arange(2**bits) + 0.5) ** 2) / 18)
    for draw in table.draws:
        blocks = mass.reshape(2**draw.known, 2, -1).sum(axis=2)
        ones = draw.digits[:, 0, :] @ (2 ** np.arange(precision)[::-1])
        assert np.array_equal(ones, np.rint(blocks[:, 1] / blocks.sum(axis=1) * 2**precision))


def test_layout_decides_the_number_of_slots_and_rows() -> None:
    assert LAYOUT == (5, 1, 1)
    for spare in (0, 1):
        table = half_gaussian(ladder(2**20).levels[0].variance, spare=spare)
        slots = 32 >> spare
        assert [(draw.known, draw.bits, 2**draw.slot_bits) for draw in table.draws] == [
            (0, 5, slots),
            (5, 1, 1),
            (6, 1, 1),
        ]
        assert [draw.digits.shape for draw in table.draws] == [(slots, 5, 64), (32, 1, 64), (64, 1, 64)]
        assert table.bits == 7


@pytest.mark.parametrize("scale", [2**20, 2**32])
def test_the_universal_scales_do_with_half_the_slots(scale: int) -> None:
    assert {table.draws[0].slot_bits for table in gaussian_tables(ladder(scale))} == {4}


def test_tables_do_not_depend_on_the_working_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parties must hold equal tables; so no rounding may be close enough to a tie for 256 bits to matter."""
    variances = [ladder(2**20).levels[0].variance, ladder(2**20).levels[-1].variance]
    usual = [*(half_gaussian(variance) for variance in variances), *geometric_digits(2**20)]
    monkeypatch.setattr(REAL, "prec", 600)
    again = [*(half_gaussian.__wrapped__(variance) for variance in variances), *geometric_digits.__wrapped__(2**20)]
    for one, other in zip(usual, again, strict=True):
        assert all(np.array_equal(a.digits, b.digits) for a, b in zip(one.draws, other.draws, strict=True))


def test_universal_tables_are_what_they_always_were() -> None:
    """All parties of a task must use equal tables, whatever versions they run: a change here is a new protocol."""
    digest = hashlib.sha256()
    for scale in (2**20, 2**32):
        digest.update(repr([level.shift for level in ladder(scale).levels]).encode())
        for table in (*geometric_digits(scale), *gaussian_tables(ladder(scale))):
            for draw in table.draws:
                digest.update(np.packbits(draw.digits).tobytes())
    assert digest.hexdigest() == "2e4a67cd566eaf0650fc6aba745a95d4857e035ba140b793f09a0a2429687336"


@pytest.mark.parametrize("exponent", range(41))
def test_ladder_hits_every_power_of_two_exactly(exponent: int) -> None:
    steps = ladder(2**exponent)
    assert steps.variance == 4**exponent
    assert all(level.variance <= 158 for level in steps.levels)
    assert all(squared >= Fraction(9, 4) for squared in steps.smoothing_squared())


def test_ladders_of_the_universal_scales() -> None:
    assert [level.shift for level in ladder(2**20).levels] == [0, 3, 6, 9, 12, 15, 17]
    assert [level.shift for level in ladder(2**32).levels] == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (((1, 16),), "start at 0"),
        (((0, 16), (0, 16)), "increase"),
        (((0, 16), (3, 16)), "too narrow"),  # s = 16 / sqrt(16 + 64 * 16) = 0.5
    ],
)
def test_ladder_refuses(levels: tuple[tuple[int, int], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ladder(tuple(Level(shift, Fraction(variance)) for shift, variance in levels))
