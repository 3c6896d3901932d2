"""The figures: over iterations with the paper's points underneath, and over epsilon."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from mpcdp.reproduce.looks import LOOKS
from mpcdp.reproduce.points import Point
from mpcdp.reproduce.published import published_points
from mpcdp.reproduce.settings import PAPER_OWNERS
from mpcdp.reproduce.tables import BenchmarkTable

__all__ = ["draw_epsilons", "draw_frontier", "draw_iterations", "save"]

_FLOOR = 2e-5
"""Smallest loss that is drawn: less than half a test record in 20,000 is chance."""

_PAPER_METHODS = (
    "pathak",
    "local_output",
    "local_objective",
    "local_gradient",
    "rajkumar_agarwal",
    "mpc_output",
    "mpc_gradient",
)
_OURS = ("our_output", "our_laplace_output", "our_statistics", "our_gradient")


def draw_iterations(points: Sequence[Point], table: BenchmarkTable, *, owners: int) -> Any:
    """Draw a table's optimality gap and loss along the iterations, side by side.

    Args:
        points: of all tables and settings.
        table: the one that is drawn.
        owners: m.

    Returns:
        The matplotlib figure.
    """
    some = [p for p in points if p.figure == "iterations" and p.table == table.name and p.owners == owners]
    figure, axes = _figure(1, 2)
    loss_name = "mse_loss" if table.regression else "accuracy_loss"
    panels = [
        (axes[0, 0], "gap", "optimality_gap", "optimality gap (training records)"),
        (axes[0, 1], "loss", loss_name, _loss_label(table)),
    ]
    for axis, quantity, metric, label in panels:
        shown = _draw_published(axis, table.name, metric) if owners == PAPER_OWNERS else False
        for method in (*_PAPER_METHODS, *_OURS):
            _draw_path(axis, [p for p in some if p.method == method], method, quantity)
        axis.set(yscale="log", xlabel="iteration", ylabel=label)
        axis.set_xlim(-30, 1430)
        if quantity == "loss":
            axis.set_ylim(bottom=max(_FLOOR, axis.get_ylim()[0]))
    if shown:
        axes[0, 0].scatter([], [], s=110, color="#bbbbbb", alpha=0.6, linewidths=0, label="the paper's points (pale)")
    runs = max((p.runs for p in some), default=0)
    figure.suptitle(f"{table.title}: m = {owners:,}, \u03b5 = 0.5, mean and standard deviation of {runs} runs")
    _add_legend(figure, axes[0, 0])
    return figure


def draw_epsilons(points: Sequence[Point], table: BenchmarkTable) -> Any:
    """Draw a table's loss over epsilon: one column for each number of owners, one row for each calibration."""
    some = [p for p in points if p.figure == "epsilon" and p.table == table.name]
    counts = sorted({p.owners for p in some})
    figure, axes = _figure(2, len(counts))
    names = {
        "paper": "the paper's calibration (not valid for most)",
        "valid": "valid calibration, \u03b4 = 10\u207b\u2076 or pure",
    }
    for row, (calibration, name) in enumerate(names.items()):
        for column, owners in enumerate(counts):
            axis = axes[row, column]
            here = [p for p in some if p.owners == owners]
            for method in (*_PAPER_METHODS, *_OURS):
                path = [p for p in here if p.method == method and p.calibration in (calibration, "ours")]
                _draw_over_epsilon(axis, path, method)
            axis.set(xscale="log", yscale="log", xlabel="\u03b5", ylabel=_loss_label(table) if column == 0 else "")
            axis.set_title(f"m = {owners:,}, {name}", fontsize=9)
            _mark_epsilons(axis, here)
    for row_axes in axes:
        bottom = max(_FLOOR, min(axis.get_ylim()[0] for axis in row_axes))
        top = max(axis.get_ylim()[1] for axis in row_axes)
        for axis in row_axes:
            axis.set_ylim(bottom, top)
    runs = max((p.runs for p in some), default=0)
    figure.suptitle(
        f"{table.title}: loss against the model without privacy, mean and standard deviation of {runs} runs"
    )
    _add_legend(figure, *axes[:, 0])
    return figure


def draw_frontier(points: Sequence[Point], table: BenchmarkTable, *, reference: float) -> Any:
    """Draw quality over epsilon, whole on the left and near the model without privacy on the right."""
    some = [p for p in points if p.figure == "frontier" and p.table == table.name]
    figure, axes = _figure(1, 2)
    if table.regression:
        axes[0, 0].set_yscale("log")
    label = "mean squared error on test records" if table.regression else "accuracy on test records"
    for axis in axes[0]:
        axis.axhline(reference, color="#888888", linewidth=3, alpha=0.5, label="without privacy", zorder=1)
        for method in dict.fromkeys(p.method for p in some):
            _draw_over_epsilon(axis, [p for p in some if p.method == method], method, "quality")
        axis.set(xscale="log", xlabel="\u03b5", ylabel=label)
        _mark_epsilons(axis, some)
    ours = [p.quality for p in some if p.method == "our_gradient" and p.epsilon >= 0.1]
    margin = max([abs(quality - reference) for quality in ours] + [0.01 * reference])
    worse, better = (1.3, -0.15) if table.regression else (-1.3, 0.15)
    axes[0, 1].set_ylim(*sorted((reference + worse * margin, reference + better * margin)))
    axes[0, 1].set_title("near the model without privacy", fontsize=9)
    runs = max((p.runs for p in some), default=0)
    figure.suptitle(f"{table.title}: m = 1,000 owners, mean and standard deviation of {runs} runs")
    _add_legend(figure, axes[0, 0])
    return figure


def save(figure: Any, folder: Path, name: str) -> bytes:
    """Write a figure as PNG and SVG, and return the PNG's bytes."""
    import matplotlib.pyplot as plt

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    figure.savefig(folder / f"{name}.svg")
    plt.close(figure)
    (folder / f"{name}.png").write_bytes(buffer.getvalue())
    return buffer.getvalue()


def _figure(rows: int, columns: int) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(max(5.2 * columns, 9.0), 4.2 * rows + 1.4),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat:
        axis.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _draw_published(axis: Any, table: str, metric: str) -> bool:
    """Draw the paper's points, large and pale, under everything else."""
    found = [p for p in published_points() if p.table == table and p.metric == metric]
    for method in _PAPER_METHODS:
        path = [p for p in found if p.method == method]
        axis.scatter(
            [p.iterations for p in path],
            [p.value for p in path],
            s=110,
            color=LOOKS[method].colour,
            marker=LOOKS[method].marker,
            alpha=0.4,
            linewidths=0,
            zorder=1,
        )
    return bool(found)


def _draw_path(axis: Any, path: Sequence[Point], method: str, quantity: str) -> None:
    if not path:
        return
    look = LOOKS[method]
    if path[-1].iterations is None:  # a model released once: a level
        value = max(getattr(path[-1], quantity), _FLOOR)
        axis.axhline(value, color=look.colour, linestyle=look.style, linewidth=1.8, label=look.title, zorder=3)
        return
    _draw_line(axis, [p.iterations for p in path], path, method, quantity, size=9 if method in _OURS else 4.5)


def _draw_over_epsilon(axis: Any, path: Sequence[Point], method: str, quantity: str = "loss") -> None:
    if path:
        ordered = sorted(path, key=lambda p: p.epsilon)
        size = 9 if method == "our_gradient" else 6
        _draw_line(axis, [p.epsilon for p in ordered], ordered, method, quantity, size=size)


def _draw_line(axis: Any, xs: Sequence[Any], path: Sequence[Point], method: str, quantity: str, *, size: float) -> None:
    look = LOOKS[method]
    values = np.array([getattr(p, quantity) for p in path])
    spreads = np.array([getattr(p, f"{quantity}_deviation") for p in path])
    # On a logarithmic axis the band is as far below as above: a mean less its deviation is often negative.
    linear = quantity == "quality" and axis.get_yscale() == "linear"
    lower = values - spreads if linear else values**2 / np.maximum(values + spreads, _FLOOR)
    axis.fill_between(
        xs,
        np.maximum(lower, _FLOOR),
        np.maximum(values + spreads, _FLOOR),
        color=look.colour,
        alpha=0.15,
        linewidth=0,
        zorder=2,
    )
    axis.plot(
        xs,
        np.maximum(values, _FLOOR),
        color=look.colour,
        marker=look.marker,
        linestyle=look.style,
        linewidth=1.6,
        markersize=size,
        label=look.title,
        zorder=4 if method in _OURS else 3,
    )


def _mark_epsilons(axis: Any, points: Sequence[Point]) -> None:
    """Name the budgets that were run, in the place of powers of ten."""
    epsilons = sorted({p.epsilon for p in points})
    axis.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    axis.xaxis.minorticks_off()


def _loss_label(table: BenchmarkTable) -> str:
    return "loss of mean squared error" if table.regression else "loss of test accuracy"


def _add_legend(figure: Any, *axes: Any) -> None:
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(
        entries.values(),
        entries.keys(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
        markerscale=0.9,
    )
