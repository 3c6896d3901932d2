"""The public numbers that program the noise circuits: biases of coins, tables of bits, ladders of shifts.

Everything here is public and deterministic: real numbers are computed in 256-bit arithmetic and rounded to integers
once, so that all parties hold the same tables. How far the rounding moves the noise from its ideal law is the business
of `mpcdp.mpc.noise.law`, which reads nothing but these tables.

**Laplace.** |y| - 1/2 of y with P(y) ~ exp(-|y| / t) on Z + 1/2 is geometric with ratio exp(-1/t), and the binary
digits of a geometric are independent; they are drawn a few at a time (`geometric_digits`). The sign is one more fair
coin: on Z + 1/2 there is no zero that would be drawn twice.

**Gaussian.** |y| - 1/2 of y with P(y) ~ exp(-y^2 / (2 sigma^2)) on Z + 1/2 is drawn bit by bit from a table
(`half_gaussian`), for sigma up to 12.5. Wider Gaussians are sums of shifted narrow ones (`ladder`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from mpmath import MPContext
from numpy.typing import NDArray

__all__ = [
    "GEOMETRIC_BITS",
    "LAYOUT",
    "PRECISION",
    "REAL",
    "Draw",
    "GeometricDigits",
    "HalfGaussian",
    "Ladder",
    "Level",
    "Real",
    "Table",
    "gaussian_tables",
    "geometric_digits",
    "half_gaussian",
    "knuth_yao",
    "ladder",
    "real",
]

PRECISION = 64
"""lambda: number of random bits that decide one draw."""

GEOMETRIC_BITS = 3
"""A geometric's digits are drawn so many at a time: fewest words sent at lambda = 64."""

LAYOUT = (5, 1, 1)
"""The 7 bits of a half-Gaussian, most significant first, in draws of so many bits: fewest words sent at lambda = 64."""

REAL = MPContext()
"""256-bit real arithmetic."""
REAL.prec = 256

Real = Any
"""A real number of `REAL`; mpmath has no type annotations."""

_LEVEL_VARIANCE = 158
"""What a 7-bit table cuts off lies beyond 10 standard deviations and weighs 2^-78. Most variances about this one need
32 slots for the first five bits; for this one, 16 do."""

_LEVEL_STEP = 3
_SMOOTHING = Fraction(3, 2)


@dataclass(frozen=True, eq=False)
class Draw:
    """One step of a table: draws some bits of the result, given all bits drawn before.

    Toss fair coins until the first head. A head at toss i (0-based; probability 2^-(i+1)) and a uniform slot together
    pick an outcome; no head in lambda tosses picks outcome 0.

    Args:
        known: number of bits drawn before.
        bits: number of bits drawn now.
        slot_bits: log2 of the number of slots.
        digits: shape (2^slot_bits * 2^known, bits, lambda): digits[slot * 2^known + prefix, b, i] is bit b (most
            significant first) of the outcome, where prefix is the integer formed by the known bits.
    """

    known: int
    bits: int
    slot_bits: int
    digits: NDArray[np.bool_]

    @cached_property
    def coefficients(self) -> NDArray[np.bool_]:
        """The digits as polynomials over GF(2) in the bits of their first index, of the digits' shape.

        The index, read as a set of its bits, is of a monomial now: digits[x] is the XOR of coefficients[m] over all
        subsets m of x.
        """
        result = self.digits.copy()
        for bit in range(self.slot_bits + self.known):
            halves = result.reshape(-1, 2, 1 << bit, *self.digits.shape[1:])
            halves[:, 1] ^= halves[:, 0]
        return result


@dataclass(frozen=True, eq=False)
class Table:
    """What draws an integer of some bits.

    Args:
        precision: lambda.
        draws: the bits, most significant first.
    """

    precision: int
    draws: tuple[Draw, ...]

    @property
    def bits(self) -> int:
        """The number of bits of the integer."""
        return sum(draw.bits for draw in self.draws)


@dataclass(frozen=True, eq=False)
class GeometricDigits(Table):
    """A table for some neighbouring binary digits of a geometric variable, which are independent of the others.

    Args:
        scale: t; the variable k >= 0 has P(k) proportional to exp(-k / t).
        place: of the lowest digit: the integer weighs 2^place.
    """

    scale: int
    place: int


@dataclass(frozen=True, eq=False)
class HalfGaussian(Table):
    """A table for k = |y| - 1/2 in 0 .. 2^g - 1, y a discrete Gaussian on Z + 1/2.

    Args:
        variance: sigma^2.
    """

    variance: Fraction


@cache
def geometric_digits(
    scale: int, *, precision: int = PRECISION, drawn: int = GEOMETRIC_BITS
) -> tuple[GeometricDigits, ...]:
    """Compute the tables of a geometric's digits, ``drawn`` digits each, the lowest digits first.

    The digits i >= n are cut off (set to 0), n the least multiple of ``drawn`` with exp(-2^n / t) <= 2^-lambda; that is
    the probability that any of them is 1.

    Source:
        Dwork, Kenthapadi, McSherry, Mironov, Naor: Our Data, Ourselves (Eurocrypt 2006), section 4.1:
        exp(-k / t) is a product over the binary digits of k, so the digits are independent.
    """
    tables = []
    place = 0
    while 2**place < precision * REAL.ln2 * scale:
        masses = [REAL.exp(-REAL.mpf(j << place) / scale) for j in range(2**drawn)]
        layout = ((drawn, 0 if drawn == 1 else drawn),)
        tables.append(GeometricDigits(precision, _draws(masses, precision, layout), scale, place))
        place += drawn
    return tuple(tables)


@cache
def half_gaussian(
    variance: Fraction, *, precision: int = PRECISION, layout: tuple[int, ...] = LAYOUT, spare: int = 0
) -> HalfGaussian:
    """Compute the table of a half-Gaussian.

    Args:
        variance: sigma^2 > 0.
        precision: lambda.
        layout: number of bits of each draw.
        spare: draw from fewer slots than always suffice: 2^spare times fewer, where several bits are drawn.

    Raises:
        ValueError: so few slots do not suffice for this variance.
    """
    bits = sum(layout)
    masses = [REAL.exp(-(REAL.mpf(2 * k + 1) ** 2) / 8 / real(variance)) for k in range(2**bits)]
    slots = [0 if drawn == 1 else drawn - spare for drawn in layout]
    return HalfGaussian(precision, _draws(masses, precision, tuple(zip(layout, slots, strict=True))), variance)


def _draws(masses: Sequence[Real], precision: int, layout: Sequence[tuple[int, int]]) -> tuple[Draw, ...]:
    """Compute, for each prefix, the law of the next bits, rounded to integer weights.

    Args:
        masses: of all integers; not normalised.
        precision: lambda.
        layout: number of bits and log2 of the number of slots of each draw.
    """
    draws = []
    known = 0
    for drawn, slot_bits in layout:
        below = len(masses) >> (known + drawn)  # what the bits after this draw can be
        blocks = [REAL.fsum(masses[start : start + below]) for start in range(0, len(masses), below)]
        digits = np.empty((2**slot_bits, 2**known, drawn, precision), dtype=np.bool_)
        for prefix in range(2**known):
            weights = _weights(blocks[prefix << drawn : (prefix + 1) << drawn], total=2 ** (precision + slot_bits))
            outcomes = np.array(knuth_yao(weights, precision=precision, slot_bits=slot_bits))  # (lambda, slots)
            for bit in range(drawn):
                digits[:, prefix, bit, :] = (outcomes.T >> (drawn - 1 - bit)) & 1
        draws.append(Draw(known, drawn, slot_bits, digits.reshape(-1, drawn, precision)))
        known += drawn
    return tuple(draws)


def knuth_yao(weights: Sequence[int], *, precision: int, slot_bits: int) -> list[list[int]]:
    """Assign the slots of every toss to outcomes, so that outcome j is drawn with probability weights[j] / total.

    A slot at toss i weighs 2^(lambda - 1 - i) units of 1 / total, where total = 2^(lambda + slot_bits). Tosses are
    filled in order, each outcome taking slots while they fit its remaining weight.

    Guarantees:
        Never stuck, for up to 2^slot_bits + 1 outcomes. Let S = 2^slot_bits, J the number of outcomes and z a slot's
        weight at some toss. What remains is S (2z - 1) units: the slots from here on weigh S (z + z/2 + ... + 1). An
        outcome of remaining weight R can take floor(R / z) >= (R - z + 1) / z slots, and S (2z - 1) - J (z - 1) >
        (S - 1) z as J <= S + 1; so all together can take more than S - 1 slots, that is S. At the end nothing remains.

        For more outcomes, up to 2 S or so, it depends on the weights: on average, half of z is too little for a slot.
        All that is taken at earlier tosses are multiples of 2 z, so no other order of taking could do better.

    Args:
        weights: sum to total; the first is at least 2^slot_bits, which "no head at all" will give it.
        precision: lambda.
        slot_bits: log2 of S.

    Returns:
        The outcome for each toss and slot, lambda lists of S.

    Raises:
        ValueError: the weights are not as above, or they need more slots.

    Source:
        Knuth, Yao: The complexity of nonuniform random number generation (1976); with 2^slot_bits slots a toss serves
        several outcomes at once.
    """
    slots = 2**slot_bits
    if sum(weights) != slots << precision or weights[0] < slots:
        raise ValueError(f"{len(weights)} weights do not make a draw of {slots} slots and {precision} tosses")
    remaining = [weights[0] - slots, *weights[1:]]
    tosses = []
    for toss in range(precision):
        size = 1 << (precision - 1 - toss)
        row: list[int] = []
        for outcome, weight in enumerate(remaining):
            taken = min(weight // size, slots - len(row))
            row += [outcome] * taken
            remaining[outcome] -= taken * size
        if len(row) < slots:
            raise ValueError(f"{slots} slots are too few for these {len(weights)} weights")
        tosses.append(row)
    return tosses


@dataclass(frozen=True)
class Level:
    """One summand 2^shift * x of a ladder, x a discrete Gaussian on Z + 1/2 of the given variance."""

    shift: int
    variance: Fraction


@dataclass(frozen=True)
class Ladder:
    """A discrete Gaussian on Z + 1/2 as the sum of 2^shift * x over independent narrow ones.

    Args:
        levels: narrowest summand first; shift 0 first and increasing, so that the sum lies on Z + 1/2 again.

    Raises:
        ValueError: a summand is too narrow for its shift (see Guarantees), or the shifts are not as above.

    Guarantees:
        Adding 2^e x, x of variance b^2, to a sum of variance a^2 gives variance a^2 + 4^e b^2 exactly and the law of a
        discrete Gaussian up to a relative error that depends on s = a b / sqrt(a^2 + 4^e b^2) alone; s >= 3/2 is
        enforced at every level, where that error is below 2^-62. `mpcdp.mpc.noise.law` has the proof.

    Source:
        Micciancio, Walter: Gaussian Sampling over the Integers (Crypto 2017), here with powers of two.
    """

    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        shifts = [level.shift for level in self.levels]
        if shifts[0] != 0 or any(low >= high for low, high in pairwise(shifts)):
            raise ValueError(f"the shifts of a ladder start at 0 and increase, unlike {shifts}")
        if any(squared < _SMOOTHING**2 for squared in self.smoothing_squared()):
            raise ValueError("a level of the ladder is too narrow for its shift")

    @property
    def variance(self) -> Fraction:
        """The exact variance parameter sigma^2 of the sum."""
        return sum((4**level.shift * level.variance for level in self.levels), Fraction(0))

    def smoothing_squared(self) -> list[Fraction]:
        """Compute s^2 of every addition, one fewer than there are levels."""
        total = self.levels[0].variance
        squares = []
        for level in self.levels[1:]:
            wider = total + 4**level.shift * level.variance
            squares.append(total * level.variance / wider)
            total = wider
        return squares


@cache
def ladder(scale: int) -> Ladder:
    """Plan a ladder for sigma = scale exactly: levels of variance 158, three bits apart, and a top one for the rest.

    The top level gets the least shift with which its variance does not exceed that.

    Raises:
        ValueError: the top level would be too narrow (just above some scales a level more is needed); never for a
            power of two.
    """
    target = Fraction(scale) ** 2
    lower: list[Level] = []
    covered = Fraction(0)
    while True:
        highest = _LEVEL_STEP * len(lower)
        for shift in range(lower[-1].shift + 1 if lower else 0, highest + 1):
            top = (target - covered) / 4**shift
            if top <= _LEVEL_VARIANCE:
                return Ladder((*lower, Level(shift, top)))
        lower.append(Level(highest, Fraction(_LEVEL_VARIANCE)))
        covered += 4**highest * lower[-1].variance


def gaussian_tables(levels: Ladder) -> tuple[HalfGaussian, ...]:
    """Compute the table of every level of a ladder; levels of equal variance share one.

    All have the same layout: half the slots that always suffice where all tables can do with them, as those of the
    universal scales can.
    """
    try:
        return tuple(half_gaussian(level.variance, spare=1) for level in levels.levels)
    except ValueError:
        return tuple(half_gaussian(level.variance) for level in levels.levels)


def real(value: Fraction) -> Real:
    """Convert a rational number to `REAL`."""
    return REAL.mpf(value.numerator) / value.denominator


def _weights(masses: Sequence[Real], *, total: int) -> list[int]:
    """Round masses to integers of the given total, each within one unit: differences of the rounded running sums."""
    whole = REAL.fsum(masses)
    sums = [0, *(_nearest(REAL.fsum(masses[: j + 1]) / whole * total) for j in range(len(masses)))]
    return [high - low for low, high in pairwise(sums)]


def _nearest(value: Real) -> int:
    return int(REAL.nint(value))
