"""The encoding between real vectors and the ring: x -> round(x * scale), with public clipping.

The plan chooses ``scale`` so that the one universal noise has the size the privacy guarantee needs.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpcdp.secret_sharing.shares import RingVector

__all__ = ["FLOAT_EPSILON", "Encoding"]

FLOAT_EPSILON = 2.0**-53
"""Unit roundoff of IEEE double precision."""


@dataclass(frozen=True)
class Encoding:
    """Fixed-point encoding of vectors whose coordinates lie in [-bound, bound].

    Args:
        scale: ring units per unit of the real vector; positive and finite.
        bound: public bound on each coordinate's magnitude, in real units; larger values are clipped to it.

    Raises:
        ValueError: an argument is not a positive finite number, or encoded values would not fit 2^62.

    Guarantees:
        Clipping is 1-Lipschitz and rounding moves a coordinate by at most 1/2 unit, so for any x, x' of dimension d:
        ||encode(x) - encode(x')||_2 <= scale * ||x - x'||_2 + sqrt(d) + 2 * scale * R * FLOAT_EPSILON, where R bounds
        ||x||_2 and ||x'||_2; the last term is the multiplication's rounding.
    """

    scale: float
    bound: float

    def __post_init__(self) -> None:
        for name in ("scale", "bound"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"an encoding's {name} is a positive finite number, not {value}")
        if self.scale * self.bound >= 2.0**62:
            raise ValueError(f"encoded coordinates of up to {self.scale * self.bound:.3g} do not fit 2^62")

    def encode(self, vector: NDArray[np.float64]) -> RingVector:
        """Clip to the public bound, scale and round to the nearest integer (ties to even), shape (d,).

        A coordinate that is not a number becomes 0: after a session has started, no value may cause an error.
        """
        finite = np.where(np.isnan(vector), 0.0, vector)
        return np.rint(np.clip(finite, -self.bound, self.bound) * self.scale).astype(np.int64)

    def decode(self, ring: RingVector, *, offset: float = 0.0) -> NDArray[np.float64]:
        """Return (ring + offset) / scale, shape (d,).

        Args:
            ring: revealed integers.
            offset: public constant in ring units, such as the 1/2 of noise on the half-integer coset.
        """
        return (ring.astype(np.float64) + offset) / self.scale
