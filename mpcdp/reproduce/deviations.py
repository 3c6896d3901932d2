"""How far what was measured is from what was published."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpcdp.reproduce.points import Point
from mpcdp.reproduce.published import PublishedPoint, published_points
from mpcdp.reproduce.settings import PAPER_OWNERS

__all__ = ["Deviation", "deviations", "order"]

_LAST = 1400


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One method and metric, beside the paper's.

    Args:
        table: name of the data set.
        metric: as the published points call it.
        method: its key.
        published: the paper's last point, at iteration 1,400.
        measured: ours there, mean of the runs.
        spread: standard deviation of a single run.
        mean_ratio: geometric mean of measured over published along all iterations.
    """

    table: str
    metric: str
    method: str
    published: float
    measured: float
    spread: float
    mean_ratio: float

    @property
    def ratio(self) -> float:
        """Measured over published at the last point."""
        return self.measured / self.published


def deviations(points: Sequence[Point]) -> list[Deviation]:
    """Compare the points of the paper's setting with the published ones, where there are any."""
    measured = {
        (point.table, point.method, point.iterations): point
        for point in points
        if point.figure == "iterations" and point.calibration == "paper" and point.owners == PAPER_OWNERS
    }
    series: dict[tuple[str, str, str], list[tuple[PublishedPoint, Point]]] = {}
    for published in published_points():
        point = measured.get((published.table, published.method, published.iterations))
        if point is not None:
            series.setdefault((published.table, published.metric, published.method), []).append((published, point))
    return [_compare(*name, pairs) for name, pairs in series.items()]


def order(found: Sequence[Deviation], *, table: str, metric: str) -> tuple[list[str], list[str]]:
    """Return the methods from worst to best, as published and as measured."""
    some = [deviation for deviation in found if deviation.table == table and deviation.metric == metric]
    return (
        [one.method for one in sorted(some, key=lambda one: -one.published)],
        [one.method for one in sorted(some, key=lambda one: -one.measured)],
    )


def _compare(table: str, metric: str, method: str, pairs: Sequence[tuple[PublishedPoint, Point]]) -> Deviation:
    logs = [math.log(max(_value(metric, point)[0], 1e-9) / published.value) for published, point in pairs]
    last, point = next(pair for pair in pairs if pair[0].iterations == _LAST)
    value, spread = _value(metric, point)
    return Deviation(
        table=table,
        metric=metric,
        method=method,
        published=last.value,
        measured=value,
        spread=spread,
        mean_ratio=math.exp(math.fsum(logs) / len(logs)),
    )


def _value(metric: str, point: Point) -> tuple[float, float]:
    if metric == "optimality_gap":
        return point.gap, point.gap_deviation
    return point.loss, point.loss_deviation
