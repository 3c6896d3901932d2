"""The exact law of what the circuits produce, from their tables alone, and its distance from the ideal law.

All probabilities of circuits are rational and computed as such; those of ideal laws are real, in 256-bit arithmetic.
The laws here follow the *meaning* of the tables (tosses, slots, prefixes, digits), not the circuits that use them.

**Total variation of one sample.** With TV(P, Q) = half the sum of |P(y) - Q(y)|:

* The same post-processing of P and Q (signs, shifts, sums) does not increase TV, and independent parts add up.
* Laplace: each table of a few digits is compared with the ideal law of these digits, exactly; the digits that are cut
  off are all 0 with probability 1 - exp(-2^n / t). So TV <= sum of the tables' TV + exp(-2^n / t).
* Gaussian: each level's table is compared with the ideal half-Gaussian, exactly, its tail beyond the table included;
  replacing all tables by ideal ones costs the sum. Then each addition of the ladder costs e / (1 - e), as follows.

**Adding shifted discrete Gaussians.** Let x_a, x_b be discrete Gaussians on Z + 1/2 with parameters a and b, k even,
sigma^2 = a^2 + k^2 b^2, s = a b / sigma, c = k b^2 / sigma^2. Then x = x_a + k x_b lies on Z + 1/2 and, completing the
square,

    P(x)  ~  sum over x_b of exp(-(x - k x_b)^2 / 2a^2 - x_b^2 / 2b^2)
          =  exp(-x^2 / 2 sigma^2) * sum over x_b in Z + 1/2 of exp(-(x_b - c x)^2 / 2s^2).

By Poisson summation the last sum is s sqrt(2 pi) (1 + r(x)), where for *every* x

    |r(x)| <= e = 2 (q + q^4 + q^9 + ...) <= 2 q / (1 - q),    q = exp(-2 pi^2 s^2).

After normalisation the ratio of P to the discrete Gaussian of parameter sigma is within [(1 - e) / (1 + e), (1 + e) /
(1 - e)] everywhere, so their TV is at most e / (1 - e).

Source:
    Micciancio, Walter: Gaussian Sampling over the Integers (Crypto 2017), theorem 2, specialised.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product

from mpcdp.mpc.noise.tables import REAL, GeometricDigits, HalfGaussian, Ladder, Real, Table, real

__all__ = [
    "gaussian_total_variation",
    "geometric_law",
    "geometric_target",
    "half_gaussian_target",
    "ladder_law",
    "laplace_total_variation",
    "signed_law",
    "table_law",
]


def table_law(table: Table) -> list[Fraction]:
    """Compute P(k), k = 0 .. 2^g - 1, of the integer that a table draws: all tosses and slots of every draw."""
    law = [Fraction(1)]
    for draw in table.draws:
        slots, prefixes, tosses = 2**draw.slot_bits, 2**draw.known, table.precision
        extended = []
        for prefix, mass in enumerate(law):
            weights = [0] * 2**draw.bits  # in units of 2^-(lambda + slot_bits)
            weights[0] = slots  # no head in any toss
            for slot, toss in product(range(slots), range(tosses)):
                bits = draw.digits[slot * prefixes + prefix, :, toss]
                weights[int("".join("1" if bit else "0" for bit in bits), 2)] += 2 ** (tosses - 1 - toss)
            extended += [mass * Fraction(weight, slots * 2**tosses) for weight in weights]
        law = extended
    return law


def geometric_law(tables: Sequence[GeometricDigits]) -> list[Fraction]:
    """Compute P(k), k = 0 .. 2^n - 1, of the integer whose digits the tables draw; for small n."""
    law = [Fraction(1)]
    for table in tables:
        law = [mass * weight for weight in table_law(table) for mass in law]
    return law


def signed_law(magnitudes: Sequence[Fraction]) -> dict[Fraction, Fraction]:
    """Give k a fair sign: the law of y = +-(k + 1/2)."""
    law = {}
    for k, mass in enumerate(magnitudes):
        law[k + Fraction(1, 2)] = law[-k - Fraction(1, 2)] = mass / 2
    return law


def ladder_law(ladder: Ladder, tables: Sequence[HalfGaussian]) -> dict[Fraction, Fraction]:
    """Compute the law of y, the sum of all levels; for small ladders."""
    law: Mapping[Fraction, Fraction] = {Fraction(0): Fraction(1)}
    for level, table in zip(ladder.levels, tables, strict=True):
        added: dict[Fraction, Fraction] = {}
        step = signed_law(table_law(table))
        for (y, mass), (x, weight) in product(law.items(), step.items()):
            position = y + 2**level.shift * x
            added[position] = added.get(position, Fraction(0)) + mass * weight
        law = added
    return dict(law)


def half_gaussian_target(variance: Fraction, count: int) -> list[Real]:
    """Compute the ideal P(|y| - 1/2 = k), k = 0 .. count - 1, of a discrete Gaussian y on Z + 1/2."""
    sigma = REAL.sqrt(real(variance))
    reach = max(count, int(20 * sigma) + 2)  # what lies beyond 20 sigma is below the working precision
    masses = [REAL.exp(-((REAL.mpf(k) + 0.5) ** 2) / (2 * real(variance))) for k in range(reach)]
    whole = REAL.fsum(masses)
    return [mass / whole for mass in masses[:count]]


def laplace_total_variation(tables: Sequence[GeometricDigits]) -> Real:
    """Bound the TV of one sample of the circuit from the discrete Laplace on Z + 1/2."""
    rounding = REAL.fsum(_distance(table_law(table), geometric_target(table)) for table in tables)
    top = tables[-1]
    return rounding + REAL.exp(-REAL.mpf(2 ** (top.place + top.bits)) / top.scale)


def geometric_target(table: GeometricDigits) -> list[Real]:
    """Compute the ideal law of the digits that a table draws: that of a geometric variable with only these digits."""
    masses = [REAL.exp(-REAL.mpf(j << table.place) / table.scale) for j in range(2**table.bits)]
    whole = REAL.fsum(masses)
    return [mass / whole for mass in masses]


def gaussian_total_variation(ladder: Ladder, tables: Sequence[HalfGaussian]) -> Real:
    """Bound the TV of one sample of the circuit from the discrete Gaussian on Z + 1/2 of the ladder's variance."""
    rounding = REAL.fsum(_table_total_variation(table) for table in tables)
    smoothing = REAL.mpf(0)
    for squared in ladder.smoothing_squared():
        q = REAL.exp(-2 * REAL.pi**2 * real(squared))
        error = 2 * q / (1 - q)
        smoothing += error / (1 - error)
    return rounding + smoothing


def _table_total_variation(table: HalfGaussian) -> Real:
    """Compute the exact TV of a table's law from the ideal half-Gaussian, whose tail the table does not have."""
    return _distance(table_law(table), half_gaussian_target(table.variance, 2**table.bits))


def _distance(law: Sequence[Fraction], target: Sequence[Real]) -> Real:
    """Compute the TV of a law from a target, of which only the masses where the law has any are given."""
    differences = REAL.fsum(abs(real(mass) - ideal) for mass, ideal in zip(law, target, strict=True))
    return (differences + (1 - REAL.fsum(target))) / 2
