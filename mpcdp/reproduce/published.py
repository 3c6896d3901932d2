"""The points of the paper's Figures 1 and 2.

``published_points.csv`` holds every point of both figures of the camera-ready version (NeurIPS 2018, pages 6343-6354),
read off the PDF's vector graphics, where each marker has coordinates; three digits are what that gives. m = 1,000,
epsilon = 0.5, delta = 0.001, T = 1,500. The paper's figures on Adult are in an appendix that could not be had.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["PublishedPoint", "published_points"]


@dataclass(frozen=True)
class PublishedPoint:
    """A point that somebody else measured.

    Args:
        table: name of the data set.
        metric: ``"optimality_gap"``, ``"accuracy_loss"`` or ``"mse_loss"``.
        method: its key.
        iterations: on the horizontal axis.
        value: on the vertical axis.
    """

    table: str
    metric: str
    method: str
    iterations: int
    value: float


@cache
def published_points() -> tuple[PublishedPoint, ...]:
    """Read the points."""
    text = files("mpcdp.reproduce").joinpath("published_points.csv").read_text(encoding="utf-8")
    return tuple(
        PublishedPoint(row["dataset"], row["metric"], row["method"], int(row["iterations"]), float(row["value"]))
        for row in csv.DictReader(text.splitlines())
    )
