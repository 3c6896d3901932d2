"""How far one record can move a vector: a number that always carries its norm and its neighbouring relation."""

import enum
import math
from dataclasses import dataclass

__all__ = ["Norm", "Relation", "Sensitivity"]


class Norm(enum.Enum):
    """The norm a sensitivity is measured in."""

    L1 = "L1"
    L2 = "L2"


class Relation(enum.Enum):
    """Which pairs of data sets are neighbours."""

    REPLACE_ONE = "one record of one owner is replaced"
    REPLACE_OWNER = "everything that one owner has is replaced"


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Bound on ||f(D) - f(D')|| over all neighbours D, D'.

    Args:
        norm: norm of the difference.
        bound: in the units of f; positive and finite.
        relation: which D, D' are neighbours.

    Raises:
        ValueError: the bound is not a positive finite number.
    """

    norm: Norm
    bound: float
    relation: Relation = Relation.REPLACE_ONE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"a sensitivity's bound is a positive finite number, not {self.bound}")

    def to_l1(self, *, dimension: int) -> "Sensitivity":
        """Return the L1 sensitivity that an L2 sensitivity implies: ||x||_1 <= sqrt(d) ||x||_2 (Cauchy-Schwarz).

        Guarantees: the bound is never rounded below sqrt(d) times this one, not even where doubles are subnormal.

        Args:
            dimension: number of coordinates d.

        Raises:
            ValueError: this is not an L2 sensitivity, or the dimension is below 1.
        """
        if self.norm is not Norm.L2:
            raise ValueError(f"only an L2 sensitivity converts to L1, not one of norm {self.norm.value}")
        if dimension < 1:
            raise ValueError(f"a vector has at least one coordinate, not {dimension}")
        root = math.nextafter(math.sqrt(dimension), math.inf)  # at least the real root: math.sqrt rounds to nearest
        return Sensitivity(norm=Norm.L1, bound=math.nextafter(root * self.bound, math.inf), relation=self.relation)
