"""What is checked of a contribution, in integers: its range, and the sum of the squares of what is left after a shift.

An owner's encoded vector x has d coordinates over Z_M, M = 2^64, read as integers in [-M/2, M/2). Let N bound its norm
if the owner is honest. Squares wrap around at M, so coordinates are first proven to be small, and their t lowest digits
dropped before they are squared. With public numbers t, q >= 3, n = t + q and s = n - 3, and for each coordinate a dealt
uniform mask r of 64 digits,

    c = x + 2^n + r mod M                                                                       is opened,
    zeta = floor(c / 2^s) - floor(r / 2^s) mod 2^(64 - s)                                         "range"
    y = floor(c' / 2^t) - rho(r) - 2^q - 2^(q - 3),   c' = c + 2^s mod M                          "rounded"

where rho(r) = floor(r / 2^t) if c' >= M/2, else floor((r - M [r >= M/2]) / 2^t); and the verdict is

    zeta < 16 for every coordinate,  and  S := sum of y^2 <= Q := floor((N / 2^t + (1 - 2^-t) sqrt(d))^2),

provided that  N <= 2^n - 2^s,  n <= 61,  d (9 * 2^(q - 3) + 1)^2 < 2^63  and  Q < 2^60.

**Theorem (completeness).** A vector with ||x|| <= N passes, whatever the masks are.

*Proof.* z = x + 2^n lies in [2^s, 2^(n+1) - 2^s]. floor((z + r) / 2^s) - floor(r / 2^s) = floor(z / 2^s) + e with e = 1
if the low s digits of z and r carry, else 0, and reducing c modulo M subtracts a multiple of 2^(64-s). If z = 2^(n+1) -
2^s = 15 * 2^s, its low digits are 0 and e = 0; below, floor(z / 2^s) <= 14. So zeta <= 15. By the lemma, y = x / 2^t +
f with |f| <= 1 - 2^-t, so sqrt(S) <= ||x|| / 2^t + (1 - 2^-t) sqrt(d), and the integer S is at most Q.  []

**Theorem (soundness).** A vector that passes has  ||x|| <= 2^t sqrt(Q) + (2^t - 1) sqrt(d) <= N + 2 (2^t - 1) sqrt(d),
whatever the masks are. With t = 0 that is ||x|| <= N exactly.

*Proof.* zeta < 16 says that z = x + 2^n mod M, read as an integer in [0, M), has floor(z / 2^s) + e < 16 modulo
2^(64-s) with e in {0, 1}: z < 2^(n+1), or e = 1 and z >= M - 2^s. So -2^n - 2^s <= x < 2^n, as integers: the lemma
applies, |y| <= (9/8) 2^q + 1, S < 2^63 by the third proviso, and S in the ring is S as an integer. The same lemma
bounds ||x|| by 2^t ||y|| + (2^t - 1) sqrt(d).  []

**Lemma.** If -2^n - 2^s <= x < 2^n, then y = x / 2^t + f with |f| <= 1 - 2^-t, over the integers.

*Proof.* z' = x + 2^n + 2^s lies in [0, 2^62 + 2^58), below M/2, and c' = z' + r mod M. If r < M/2 nothing wraps around;
if r >= M/2, it does exactly if c' < M/2. So z' = c' - r', where r' = r if c' >= M/2, and else r read as a signed
integer, and rho(r) = floor(r' / 2^t). Thus y + 2^q + 2^(q-3) = floor(c' / 2^t) - floor(r' / 2^t) differs from z' / 2^t
by a difference of two remainders below 2^t, divided by 2^t.  []

Between N and N + 2 (2^t - 1) sqrt(d) the verdict may depend on the masks; no honest vector is there.

*What an honest owner's N is.* Its contribution has norm at most R. Scaling by s and rounding, in double precision, give
||x|| <= s R (1 + 2^-52) + sqrt(d) / 2.

*The sign of Q - S* is decided exactly: it lies in (-2^63, 2^60), and is opened under a fresh mask like a coordinate
(`mpcdp.mpc.contribution_check.comparison`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

__all__ = ["NormCheck", "norm_check"]

_LARGEST_RANGE = 61
_SUM_LIMIT = 1 << 63
_THRESHOLD_LIMIT = 1 << 60
_ROOT_BITS = 64  # fractional bits of the square root of the dimension
_UPWARD = 1 + 2.0**-50  # covers the rounding of `accepted`


@dataclass(frozen=True)
class NormCheck:
    """The public numbers of a check; see the module's text.

    Args:
        dimension: number of coordinates d.
        shift: t.
        kept_digits: q.
        thresholds: Q for every owner of the task.

    Raises:
        ValueError: the numbers break a proviso of the theorems that does not involve N.
    """

    dimension: int
    shift: int
    kept_digits: int
    thresholds: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dimension < 1 or self.shift < 0 or self.kept_digits < 3 or self.range_digits > _LARGEST_RANGE:
            raise ValueError(f"a check has 1 coordinate, 3 digits kept and ranges up to 2^{_LARGEST_RANGE}")
        if _largest_sum(self.dimension, self.kept_digits) >= _SUM_LIMIT:
            raise ValueError(f"squares of {self.dimension} coordinates of {self.kept_digits} digits could wrap around")
        if not all(0 <= threshold < _THRESHOLD_LIMIT for threshold in self.thresholds):
            raise ValueError("a check's thresholds are below 2^60")

    @property
    def range_digits(self) -> int:
        """n: coordinates pass if they lie in [-2^n, 2^n)."""
        return self.shift + self.kept_digits

    @property
    def lowest_digit(self) -> int:
        """s: the range check looks at the digits from this one on."""
        return self.range_digits - 3

    def accepted(self, position: int) -> float:
        """Return 2^t sqrt(Q) + (2^t - 1) sqrt(d): no longer vector of that owner passes, ring units."""
        dropped = (1 << self.shift) - 1
        bound = math.ldexp(math.sqrt(self.thresholds[position]), self.shift) + dropped * math.sqrt(self.dimension)
        return bound * _UPWARD


def norm_check(*, dimension: int, scale: float, bounds: Sequence[float]) -> NormCheck:
    """Choose the numbers of a check that no honest owner fails.

    Args:
        dimension: number of coordinates d.
        scale: ring units per real unit.
        bounds: R of every owner, real units: the largest norm of its contribution.

    Raises:
        ValueError: an honest vector could be longer than the ring has room for.
    """
    root = Fraction(isqrt(dimension << 2 * _ROOT_BITS) + 1, 1 << _ROOT_BITS)  # at least sqrt(d)
    lengths = [Fraction(scale) * Fraction(bound) * (1 + Fraction(1, 1 << 52)) + root / 2 for bound in bounds]
    # At most 30, so that a threshold of a single coordinate stays below 2^60.
    kept = next(q for q in range(30, -1, -1) if q < 3 or _largest_sum(dimension, q) < _SUM_LIMIT)
    needed = max(lengths) * Fraction(8, 7)  # 2^n has to be as large
    shift = max(0, math.ceil(needed - 1).bit_length() - kept)
    if shift + kept > _LARGEST_RANGE:
        raise ValueError(f"an encoded contribution could be 2^{math.log2(max(lengths)):.1f} long")
    error = (1 - Fraction(1, 1 << shift)) * root
    return NormCheck(
        dimension=dimension,
        shift=shift,
        kept_digits=kept,
        thresholds=tuple(math.floor((length / (1 << shift) + error) ** 2) for length in lengths),
    )


def _largest_sum(dimension: int, kept_digits: int) -> int:
    """Bound the sum of squares of coordinates in range, d (9 * 2^(q - 3) + 1)^2."""
    return dimension * ((9 << kept_digits - 3) + 1) ** 2
