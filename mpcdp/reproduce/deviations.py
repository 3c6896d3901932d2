"""How far what was measured is from what was published."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpcdp.reproduce.points import Point
from mpcdp.reproduce.published import PublishedPoint, published_points
from mpcdp.reproduce.settings import PAPER_OWNERS

__all__ = ["Deviation", "deviations", "explanations", "order"]

_LAST = 1400
_CHANCE = 0.001


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


_LARGE = 1.5
"""A ratio above it, or below its inverse, is explained."""

_CAUSES = {
    ("optimality_gap", "rajkumar_agarwal"): "the formula in the paper's code, which is followed here, gives more noise "
    "than the published points have",
    ("accuracy_loss", "local_objective"): "the paper's calibration draws one random vector for all owners, so a run is "
    "a single draw, and its loss that draw's luck: the published points stay where they are along all iterations",
}


def explanations(found: Sequence[Deviation]) -> list[str]:
    """Say of every large deviation where it comes from, or that this is not known."""
    return [
        f"{one.table}, {one.metric.replace('_', ' ')}, {one.method.replace('_', ' ')}: {'; '.join(_reasons(one))}."
        for one in found
        if not all(1 / _LARGE <= ratio <= _LARGE for ratio in (one.ratio, one.mean_ratio))
    ]


def _reasons(one: Deviation) -> list[str]:
    reasons = []
    if cause := _CAUSES.get((one.metric, one.method)):
        reasons.append(cause)
    if one.metric == "accuracy_loss" and max(one.published, one.measured) <= _CHANCE:
        reasons.append(f"both are at most {_CHANCE:g}, a score of test records, which is chance and preprocessing")
    if one.spread > 0 and abs(one.measured - one.published) <= 2 * one.spread:
        distance = abs(one.measured - one.published) / one.spread
        reasons.append(f"{distance:.1f} standard deviations of a single run apart")
    return reasons or ["not explained"]


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
