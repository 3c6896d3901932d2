"""A measured point: one method in one setting, over several runs."""

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpcdp.reproduce.risk import Judge

__all__ = ["OURS", "Point", "measure", "seed_of"]

OURS = "ours"
"""The calibration of our own methods: a session's plan."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A method's figures in one setting; means and standard deviations over the runs.

    Args:
        table: name of the data set.
        figure: ``"iterations"``, ``"epsilon"`` or ``"frontier"``.
        method: its key.
        calibration: ``"paper"``, ``"valid"`` or ``"ours"``.
        owners: m.
        epsilon: asked for.
        delta: asked for; 0 where there is none.
        iterations: of the point, where it is on a path; None at the end.
        runs: number of runs.
        quality: share of test records predicted right; mean squared error for numbers.
        quality_deviation: of single runs.
        loss: distance of the quality from that of the optimum without privacy, mean of absolute values as in the paper.
        loss_deviation: of single runs.
        gap: J(theta) - J(theta*) on the training records.
        gap_deviation: of single runs.
    """

    table: str
    figure: str
    method: str
    calibration: str
    owners: int
    epsilon: float
    delta: float
    iterations: int | None = None
    runs: int
    quality: float
    quality_deviation: float
    loss: float
    loss_deviation: float
    gap: float
    gap_deviation: float

    def to_json(self) -> dict[str, Any]:
        """Return the point as one JSON object."""
        return asdict(self)


def measure(models: NDArray[np.float64], judge: Judge, **where: Any) -> Point:
    """Measure the models of some runs, shape (R, d); ``where`` are the fields that say which point it is."""
    qualities, gaps = judge.qualities(models), judge.gaps(models)
    losses = np.abs(qualities - judge.reference)
    return Point(
        runs=len(models),
        quality=float(qualities.mean()),
        quality_deviation=_deviation(qualities),
        loss=float(losses.mean()),
        loss_deviation=_deviation(losses),
        gap=float(gaps.mean()),
        gap_deviation=_deviation(gaps),
        **where,
    )


def seed_of(seed: int, *names: object) -> int:
    """Derive a seed from what the randomness is for, so that a part run alone draws what it draws in the whole."""
    return seed + zlib.crc32("/".join(map(str, names)).encode())


def _deviation(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
