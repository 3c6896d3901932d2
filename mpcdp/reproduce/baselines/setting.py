"""What a baseline is calibrated from, and what it then guarantees."""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Calibration", "Guarantee", "Setting"]


class Calibration(StrEnum):
    """Which noise a method adds.

    * ``PAPER``: what the paper's figures were made with, whether or not it keeps the promise.
    * ``VALID``: what the method's own theorem needs.
    """

    PAPER = "paper"
    VALID = "valid"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A point of the experiments.

    Args:
        owners: m.
        record_count: N, of all owners together.
        smallest_count: n_(1), of the smallest owner.
        dimension: d.
        epsilon: asked for.
        delta: asked for, where a method has one.
        regularization: lambda.
        rounds: T, of the methods that have rounds.
        learning_rate: eta.
        curvature: c, bound on the second derivative of a record's loss.
    """

    owners: int
    record_count: int
    smallest_count: int
    dimension: int
    epsilon: float
    delta: float
    regularization: float = 1e-3
    rounds: int = 1500
    learning_rate: float = 1.0
    curvature: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What noise really guarantees for one record that is replaced, when its owner's loss is 1-Lipschitz.

    Args:
        epsilon: smallest known to hold with ``delta``.
        delta: 0 for pure differential privacy.
        kept: whether that is what was asked for.
        note: what there is to say about it.
    """

    epsilon: float
    delta: float
    kept: bool
    note: str
