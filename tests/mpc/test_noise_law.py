"""The exact law of the circuits' tables against the ideal law, in 256-bit arithmetic."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

import pytest

from mpcdp.mpc.noise import UniversalNoise, universal_noise
from mpcdp.mpc.noise.law import (
    gaussian_total_variation,
    geometric_law,
    half_gaussian_target,
    ladder_law,
    laplace_total_variation,
    signed_law,
    table_law,
)
from mpcdp.mpc.noise.tables import (
    REAL,
    Real,
    gaussian_tables,
    geometric_digits,
    half_gaussian,
    ladder,
    real,
)
from mpcdp.mpc.noise.universal import Distribution, Mode

KINDS: list[tuple[Distribution, Mode]] = [
    ("gaussian", "joint"),
    ("gaussian", "per-party"),
    ("laplace", "joint"),
    ("laplace", "per-party"),
]


def proved(noise: UniversalNoise) -> tuple[Real, int]:
    """Compute a universal noise's total variation and largest sample again."""
    if noise.distribution == "laplace":
        digits = geometric_digits(noise.scale)
        return laplace_total_variation(digits), 2 ** (digits[-1].place + digits[-1].bits)
    steps = ladder(noise.scale)
    halves = sum(255 * 2**level.shift for level in steps.levels)  # twice the largest |y|
    return gaussian_total_variation(steps, gaussian_tables(steps)), (halves + 1) // 2


@pytest.mark.parametrize(("distribution", "mode"), KINDS)
def test_stated_figures_are_proved(distribution: Distribution, mode: Mode) -> None:
    noise = universal_noise(distribution, mode)
    total_variation, largest = proved(noise)
    assert total_variation <= noise.total_variation <= 2 * total_variation
    assert noise.largest == largest
    assert noise.scale == (2**20 if mode == "joint" else 2**32)


@pytest.mark.parametrize(("distribution", "mode"), KINDS)
def test_a_vector_of_100_000_coordinates_is_within_2_to_the_minus_40(distribution: Distribution, mode: Mode) -> None:
    assert 1e5 * universal_noise(distribution, mode).total_variation <= 2.0**-40


def ideal(y: Fraction, scale: int, *, gaussian: bool) -> Real:
    """The ideal law's weight at y, before normalisation."""
    size = real(abs(y)) / scale
    return REAL.exp(-(size**2) / 2) if gaussian else REAL.exp(-size)


def exact_total_variation(law: Mapping[Fraction, Fraction], scale: int, *, gaussian: bool) -> Real:
    """Compare a law on Z + 1/2 with the ideal one, point by point, over 60 (Gaussian: 25) scales to each side."""
    reach = scale * (25 if gaussian else 220)
    points = [Fraction(2 * k + 1, 2) for k in range(-reach, reach)]
    assert set(law) <= set(points)
    weights = [ideal(y, scale, gaussian=gaussian) for y in points]
    whole = REAL.fsum(weights)
    masses = [real(law.get(y, Fraction(0))) for y in points]
    return REAL.fsum(abs(mass - weight / whole) for mass, weight in zip(masses, weights, strict=True)) / 2


@pytest.mark.parametrize("scale", [16, 100])
def test_two_level_gaussian_is_within_its_bound(scale: int) -> None:
    steps = ladder(scale)
    tables = gaussian_tables(steps)
    assert len(tables) == 2
    law = ladder_law(steps, tables)
    assert sum(law.values()) == 1
    exact = exact_total_variation(law, scale, gaussian=True)
    bound = gaussian_total_variation(steps, tables)
    assert 0 < exact <= bound <= REAL.mpf(2) ** -60


@pytest.mark.parametrize("drawn", [1, 3])
@pytest.mark.parametrize("precision", [8, 64])
@pytest.mark.parametrize("scale", [1, 3])
def test_laplace_is_within_its_bound(scale: int, precision: int, drawn: int) -> None:
    digits = geometric_digits(scale, precision=precision, drawn=drawn)
    law = signed_law(geometric_law(digits))
    assert sum(law.values()) == 1
    exact = exact_total_variation(law, scale, gaussian=False)
    bound = laplace_total_variation(digits)
    assert exact <= bound <= REAL.mpf(2) ** (4 - precision)
    assert exact >= bound / 100


@pytest.mark.parametrize(("narrow", "wide", "shift"), [(1, 1, 1), (1, 2, 1), (3, 3, 2), (4, 5, 3), (13, 13, 3)])
def test_adding_ideal_gaussians_costs_what_the_lemma_says(narrow: int, wide: int, shift: int) -> None:
    """Ideal summands, so that only the smoothing error is left; narrow ones too, where it is large."""
    step = 2**shift
    points = {Fraction(2 * k + 1, 2) for k in range(-20 * wide, 20 * wide)}
    scale_squared = narrow**2 + step**2 * wide**2
    q = REAL.exp(-2 * REAL.pi**2 * REAL.mpf(narrow * wide) ** 2 / scale_squared)
    error = 2 * q / (1 - q)
    ratios = []
    for k in range(-3 * wide * step, 3 * wide * step, max(1, wide * step // 20)):
        x = Fraction(2 * k + 1, 2)
        mass = REAL.fsum(
            REAL.exp(-real((x - step * y) ** 2) / (2 * narrow**2) - real(y**2) / (2 * wide**2)) for y in points
        )
        ratios.append(mass / REAL.exp(-real(x**2) / (2 * scale_squared)))
    spread = max(ratios) / min(ratios)
    assert 1 < spread <= (1 + error) / (1 - error)
    assert spread - 1 >= error / 10  # the bound is not idle


def test_table_law_follows_the_conditional_probabilities() -> None:
    """At 64 bits each of the three draws after the first adds at most 2^-65, the first 16 units of 2^-68."""
    table = half_gaussian(Fraction(50))
    law = table_law(table)
    target = half_gaussian_target(Fraction(50), 128)
    assert sum(law) == 1
    difference = REAL.fsum(abs(real(mass) - goal) for mass, goal in zip(law, target, strict=True)) / 2
    assert difference <= REAL.mpf(2) ** -62


@pytest.mark.parametrize("toss", [2, 20])
def test_one_wrong_digit_in_a_table_shows(toss: int) -> None:
    table = half_gaussian(Fraction(169))
    digits = table.draws[1].digits.copy()
    digits[0, 0, toss] ^= True
    wrong = replace(table, draws=(table.draws[0], replace(table.draws[1], digits=digits), *table.draws[2:]))
    steps = ladder(13)
    assert gaussian_total_variation(steps, [wrong]) > 2.0 ** (-toss - 6) > gaussian_total_variation(steps, [table])


@pytest.mark.parametrize("toss", [2, 20])
def test_one_wrong_digit_of_a_geometric_shows(toss: int) -> None:
    tables = geometric_digits(2**20)
    digits = tables[6].draws[0].digits.copy()
    digits[0, 0, toss] ^= True
    wrong = replace(tables[6], draws=(replace(tables[6].draws[0], digits=digits),))
    assert laplace_total_variation([*tables[:6], wrong, *tables[7:]]) > 2.0 ** (-toss - 6)


@pytest.mark.parametrize("scale", [1, 5, 2**20])
def test_digits_have_the_biases_of_a_geometric(scale: int) -> None:
    """Dwork et al.: digit i is 1 with probability 1 / (1 + exp(2^i / t)), independently of the others."""
    for table in geometric_digits(scale):
        law = table_law(table)
        for j, mass in enumerate(law):
            expected = REAL.mpf(1)
            for i in range(table.bits):
                one = 1 / (1 + REAL.exp(REAL.mpf(2 ** (table.place + i)) / scale))
                expected *= one if j >> i & 1 else 1 - one
            assert abs(real(mass) - expected) <= REAL.mpf(2) ** (-table.precision - table.bits)
