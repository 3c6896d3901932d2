"""Rounds, learning rate, momentum and clipping norm of gradient perturbation, from public numbers alone.

**The trade.** T rounds of noise for a budget mu (the exact Gaussian curve's parameter) put sqrt(T) 2 C / (mu N) on
every coordinate of a mean gradient. A path of T steps eta adds that up to

    2 h / (mu N)   on every coordinate of the model,   h = eta T C ,

while clipped gradients move it by at most h. So the noise's share depends on the length h of the path and on the budget
alone, neither on T nor on C: h is chosen first, as `_PATH` mu N, where the noise on a model is about as large as the
model's own scale (the noise of points averages out, and on directions that matter the gradient pulls it back). What is
longer than `_SETTLED` / lambda leads nowhere: a distance from the minimum shrinks at least by exp(-lambda eta T).

**Clipping** turns the loss into another one, which large gradients pull no harder than C: less noise, but another
minimum, and the larger lambda is, the farther it is from the one that was asked for. The noise raises the objective, in
d coordinates, by something like

    (d / 2) (2 C / (mu N))^2 min(1 / lambda, eta T)

or less: in a direction of curvature a, which is at least lambda, by 1 / a in the place of the minimum, and where that
is longer than the path, by less than eta T. That is an estimate, not a bound: averaging half of the points doubles it.
C is the largest norm at which it is at most `_NOISE`, a two-hundredth of the loss before training, but at least
`_CLIPPED` of the largest gradient (records that are already fitted have small gradients, and what is clipped are the
others, whose direction is kept), and at most the largest gradient: from a large enough budget on nothing is clipped.

**Steps.** T is as small as steps of at most `_LONGEST_STEP` / L allow, L the loss's smoothness, but at least `_FEWEST`
rounds, so that there are points to average, and at most `_MOST`. Where little noise hides it, such long steps are seen
to go back and forth for ever: a direction of curvature a is stable for eta a < 2 (1 + b), b the momentum. With momentum
a step's effect adds up to eta / (1 - b), which is what counts everywhere else here. So where the budget allows to clip
less, the rules' momentum is `_MOMENTUM`, or what is felt for a tenth of the rounds where a task asks for few, and steps
that add up to the same arrive. It is none where noise is large, which would only last longer with it, and where a task
has its own learning rate. The squared loss is as curved as L everywhere: there a step is at most (1 + b) / L. What a
step adds up to is at most half of 1 / lambda. A round costs one upload of each owner and noise for d coordinates;
privacy does not depend on T.

All of this is heuristic but the stability, which is exact for quadratics. The constants were chosen on Adult and
KDDCup99 and frozen; tests/learning/test_gradient_accuracy.py has all figures, also on a table that played no part in
choosing them.
"""

import math
from dataclasses import dataclass

__all__ = ["Schedule", "choose_schedule"]

_PATH = 1.2
_SETTLED = 8.0
_CLIPPED, _NOISE = 0.3, 0.003
_LONGEST_STEP = 16.0
_MOMENTUM, _FELT = 0.9, 0.1
_FEWEST, _MOST = 100, 1000


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What a task leaves to the rules.

    Args:
        rounds: T.
        learning_rate: eta.
        momentum: b.
        clipping_norm: C.
    """

    rounds: int
    learning_rate: float
    momentum: float
    clipping_norm: float


def choose_schedule(
    *,
    mu: float,
    record_count: int,
    dimension: int,
    gradient_bound: float,
    smoothness: float,
    quadratic: bool = False,
    regularization: float,
    rounds: int | None = None,
    learning_rate: float | None = None,
    momentum: float | None = None,
    clipping_norm: float | None = None,
) -> Schedule:
    """Choose what is not given.

    Args:
        mu: of the Gaussian curve at the task's budget (`mpcdp.privacy.accountant.gaussian_mu`).
        record_count: N, of all owners together.
        dimension: d, coordinates of a model.
        gradient_bound: largest norm of a record's gradient in practice.
        smoothness: L, bound on the second derivative of a record's loss.
        quadratic: whether a record's loss has that second derivative everywhere.
        regularization: lambda.
        rounds: T, if the task has it.
        learning_rate: eta, if the task has it.
        momentum: b, if the task has it.
        clipping_norm: C, if the task has it.
    """
    strength = mu * record_count
    share = _clipping(strength / gradient_bound, dimension, regularization)
    if clipping_norm is None:
        clipping_norm = _three_digits(share * gradient_bound)
    if momentum is None:
        few = 1.0 if rounds is None else 1 - 1 / max(1.0, _FELT * rounds)
        momentum = _three_digits(min(_MOMENTUM, few)) if learning_rate is None and share > _CLIPPED else 0.0
    path = _PATH * strength / clipping_norm  # eta T / (1 - b)
    longest = (min(_LONGEST_STEP, (1 + momentum) / (1 - momentum)) if quadratic else _LONGEST_STEP) / smoothness
    if regularization > 0:
        path = min(path, _SETTLED / regularization)
        longest = min(longest, 0.5 / regularization)
    if rounds is None:
        step = longest if learning_rate is None else learning_rate / (1 - momentum)
        rounds = min(max(math.ceil(path / step), _FEWEST), _MOST)
    if learning_rate is None:
        learning_rate = _three_digits((1 - momentum) * min(path / rounds, longest))
    return Schedule(rounds=rounds, learning_rate=learning_rate, momentum=momentum, clipping_norm=clipping_norm)


def _clipping(strength: float, dimension: int, regularization: float) -> float:
    """Return the share of the largest gradient that records are clipped to; ``strength`` is mu N in its units."""
    share = _NOISE * strength / (2 * _PATH * dimension)  # with 1 / (eta T) in the place of lambda
    if regularization > 0:
        share = max(share, strength * math.sqrt(_NOISE * regularization / (2 * dimension)))
    return min(max(share, _CLIPPED), 1.0)


def _three_digits(value: float) -> float:
    """Round to what people read, so that machines whose mathematics libraries differ in the last bits agree."""
    return float(f"{value:.3g}")
