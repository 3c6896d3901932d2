"""Rounds, learning rate and clipping norm of gradient perturbation, from public numbers alone.

**The trade.** T rounds of noise for a budget mu (the exact Gaussian curve's parameter) put sqrt(T) 2 C / (mu N) on
every coordinate of a mean gradient. A path of T steps eta adds that up to

    2 h / (mu N)   on every coordinate of the model,   h = eta T C ,

while clipped gradients move it by at most h. So the noise's share depends on the length h of the path and on the budget
alone, neither on T nor on C: h is chosen first, as `_PATH` mu N, where the noise on a model is about as large as the
model's own scale (the noise of points averages out, and on directions that matter the gradient pulls it back).

**Then the others.** C is `_CLIPPED` of the largest gradient: records that are already fitted have small gradients,
and what is clipped are the others, whose direction is kept. T is as small as steps of at most `_LONGEST_STEP` / L
allow, L the loss's smoothness, but at least `_FEWEST` rounds, so that there are points to average, and at most `_MOST`.
The squared loss is as curved as L everywhere, and steps above 2 / L may grow for ever: there they are at most 1 / L.
A step eta is at most half of 1 / lambda. A round costs one upload of each owner and noise for d coordinates; privacy
does not depend on T.

The constants were chosen on Adult and KDDCup99 and frozen; tests/learning/test_gradient_accuracy.py has all figures,
also on a table that played no part in choosing them.
"""

import math
from dataclasses import dataclass

__all__ = ["Schedule", "choose_schedule"]

_PATH = 1.2
_CLIPPED = 0.3
_LONGEST_STEP = 16.0
_FEWEST, _MOST = 100, 1000


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a task leaves to the rules.

    Args:
        rounds: T.
        learning_rate: eta.
        clipping_norm: C.
    """

    rounds: int
    learning_rate: float
    clipping_norm: float


def choose_schedule(
    *,
    mu: float,
    record_count: int,
    gradient_bound: float,
    smoothness: float,
    quadratic: bool = False,
    regularization: float,
    rounds: int | None = None,
    learning_rate: float | None = None,
    clipping_norm: float | None = None,
) -> Schedule:
    """Choose what is not given.

    Args:
        mu: of the Gaussian curve at the task's budget (`mpcdp.privacy.accountant.gaussian_mu`).
        record_count: N, of all owners together.
        gradient_bound: largest norm of a record's gradient in practice.
        smoothness: L, bound on the second derivative of a record's loss.
        quadratic: whether a record's loss has that second derivative everywhere.
        regularization: lambda.
        rounds: T, if the task has it.
        learning_rate: eta, if the task has it.
        clipping_norm: C, if the task has it.
    """
    clipping = _three_digits(_CLIPPED * gradient_bound) if clipping_norm is None else clipping_norm
    path = _PATH * mu * record_count / clipping  # eta T
    longest = (1.0 if quadratic else _LONGEST_STEP) / smoothness
    if regularization > 0:
        longest = min(longest, 0.5 / regularization)
    if rounds is None:
        step = longest if learning_rate is None else learning_rate
        rounds = min(max(math.ceil(path / step), _FEWEST), _MOST)
    rate = _three_digits(min(path / rounds, longest)) if learning_rate is None else learning_rate
    return Schedule(rounds=rounds, learning_rate=rate, clipping_norm=clipping)


def _three_digits(value: float) -> float:
    """Round to what people read, so that machines whose mathematics libraries differ in the last bits agree."""
    return float(f"{value:.3g}")
