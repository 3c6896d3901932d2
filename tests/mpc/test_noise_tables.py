"""The public tables: exact weights, correct rounding, ladders of exactly the right variance."""

import hashlib
from decimal import Decimal, localcontext
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
    given_weights = [0] * len(weights)
    given_weights[0] = 2**slot_bits  # no head at all
    for toss, row in enumerate(tosses):
        for outcome in row:
            given_weights[outcome] += 2 ** (precision - 1 - toss)
    assert given_weights == weights


@pytest.mark.parametrize(
    ("weights", "reason"),
    [([8, 7], "the sum is not 16"), ([0, 16], "outcome 0 cannot absorb 'no head'"), ([6, 5, 5], "too many outcomes")],
)
def test_knuth_yao_refuses(weights: list[int], reason: str) -> None:
    with pytest.raises(ValueError, match="do not make a draw"):
        knuth_yao(weights, precision=4, slot_bits=0)


@pytest.mark.parametrize("scale", [1, 5, 2**20, 2**32])
def test_digit_biases_are_rounded_to_the_nearest(scale: int) -> None:
    digits = geometric_digits(scale)
    with localcontext() as context:
        context.prec = 60
        for i, threshold in enumerate(digits.thresholds):
            bias = 1 / (1 + (Decimal(2**i) / scale).exp())
            assert abs(bias * 2**64 - threshold) <= Decimal("0.5")
        missing = (-Decimal(2 ** len(digits.thresholds)) / scale).exp()
        assert missing <= Decimal(2) ** -64 < missing.sqrt()  # one digit less would be too few


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
    table = half_gaussian(Fraction(169))
    assert LAYOUT == (4, 1, 1, 1)
    assert [(draw.known, draw.bits, draw.slot_bits) for draw in table.draws] == [
        (0, 4, 4),
        (4, 1, 0),
        (5, 1, 0),
        (6, 1, 0),
    ]
    assert [draw.digits.shape for draw in table.draws] == [(16, 4, 64), (16, 1, 64), (32, 1, 64), (64, 1, 64)]
    assert table.bits == 7


def test_tables_do_not_depend_on_the_working_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parties must hold equal tables; so no rounding may be close enough to a tie for 256 bits to matter."""
    variances = [Fraction(169), ladder(2**20).levels[-1].variance]
    usual = [half_gaussian(variance) for variance in variances]
    usual_digits = geometric_digits(2**20)
    monkeypatch.setattr(REAL, "prec", 600)
    for variance, table in zip(variances, usual, strict=True):
        again = half_gaussian.__wrapped__(variance)
        assert all(np.array_equal(a.digits, b.digits) for a, b in zip(again.draws, table.draws, strict=True))
    assert geometric_digits.__wrapped__(2**20) == usual_digits


def test_universal_tables_are_what_they_always_were() -> None:
    """All parties of a task must use equal tables, whatever versions they run: a change here is a new protocol."""
    digest = hashlib.sha256()
    for scale in (2**20, 2**32):
        digest.update(repr(geometric_digits(scale).thresholds).encode())
        digest.update(repr([level.shift for level in ladder(scale).levels]).encode())
        for table in gaussian_tables(ladder(scale)):
            for draw in table.draws:
                digest.update(np.packbits(draw.digits).tobytes())
    assert digest.hexdigest() == "edf6592d21ef8919ad13936dd59009a15d7e6dc1f817a0db9a800eacb9af791d"


@pytest.mark.parametrize("exponent", range(41))
def test_ladder_hits_every_power_of_two_exactly(exponent: int) -> None:
    steps = ladder(2**exponent)
    assert steps.variance == 4**exponent
    assert all(level.variance <= 169 for level in steps.levels)
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
