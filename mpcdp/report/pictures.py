"""A report's pictures as SVG texts; numbers in, markup out, and no text that comes from a file."""

from collections.abc import Sequence

from mpcdp.privacy.attacks import true_positive_bound

__all__ = ["budget_bar", "quality_curve", "trade_off"]

_POINTS = 200
_SIZE = 260


def trade_off(*, epsilon: float, delta: float) -> str:
    """Draw the bound on an attacker's true positives over its false positives, and blind guessing beside it."""
    rates = [point / _POINTS for point in range(_POINTS + 1)]
    bound = [(rate, true_positive_bound(epsilon=epsilon, delta=delta, false_positive_rate=rate)) for rate in rates]
    area = _path([(0.0, 0.0), *bound, (1.0, 0.0)])
    return _frame(
        f'<path d="{area}Z" class="possible"/><path d="{_path(bound)}" class="bound"/>'
        f'<path d="{_path([(0.0, 0.0), (1.0, 1.0)])}" class="guess"/>',
        "false alarms",
        "right alarms",
        ("0 %", "100 %"),
        ("0 %", "100 %"),
    )


def quality_curve(rounds: Sequence[tuple[float, float]]) -> str:
    """Draw the quality on public records over the epsilon spent so far."""
    most = max(epsilon for epsilon, _ in rounds)
    values = [value for _, value in rounds]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = [(epsilon / most, (value - low) / span) for epsilon, value in rounds]
    return _frame(
        f'<path d="{_path(points)}" class="bound"/>',
        "epsilon so far",
        "quality on public records",
        ("0", f"{most:.3g}"),
        (f"{low:.3f}", f"{high:.3f}"),
    )


def budget_bar(used: float) -> str:
    """Draw which part of a limit is used."""
    share = min(1.0, used)
    return (
        '<svg viewBox="0 0 400 28" role="img" class="bar"><rect width="400" height="28" class="left"/>'
        f'<rect width="{400 * share:.1f}" height="28" class="spent"/></svg>'
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    steps = (f"{_SIZE * x:.1f},{_SIZE * (1 - y):.1f}" for x, y in points)
    return "M" + " L".join(steps)


def _frame(inside: str, below: str, beside: str, x_ends: tuple[str, str], y_ends: tuple[str, str]) -> str:
    """Put axes around a square picture."""
    return (
        f'<svg viewBox="-60 -14 {_SIZE + 80} {_SIZE + 60}" role="img" class="plot">'
        f'<rect width="{_SIZE}" height="{_SIZE}" class="frame"/>{inside}'
        f'<text x="0" y="{_SIZE + 16}">{x_ends[0]}</text>'
        f'<text x="{_SIZE}" y="{_SIZE + 16}" text-anchor="end">{x_ends[1]}</text>'
        f'<text x="-6" y="{_SIZE}" text-anchor="end">{y_ends[0]}</text>'
        f'<text x="-6" y="10" text-anchor="end">{y_ends[1]}</text>'
        f'<text x="{_SIZE / 2}" y="{_SIZE + 34}" text-anchor="middle">{below}</text>'
        f'<text transform="translate(-40,{_SIZE / 2}) rotate(-90)" text-anchor="middle">{beside}</text></svg>'
    )
