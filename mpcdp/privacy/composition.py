"""What several tasks cost together, and which further task an owner's limit allows.

Tasks are agreed on after earlier ones have released models, so later ones, their size and their mechanism may depend on
what was released. A rule that is applied while that goes on (a *privacy filter*) must not choose its own yardstick by
the results: a Gaussian budget B that is recomputed from what other tasks happened to spend would not hold
(`tests/privacy/test_composition.py` has the interaction that exceeds it). So everything here is fixed by the limit.

A limit (eps, delta) is divided into **shares** before the first task. A further task is allowed if at least one share
holds it together with all tasks before it:

    adding up     half of delta:     sum of all epsilons <= eps, of all deltas <= delta / 2
    share r       delta_r = delta/8 each, for r = 0, 1/4, 1/2, 3/4:
                  Gaussian tasks:    sum of mu^2 <= B_r, the largest with delta(eps (1 - r); sqrt(B_r)) <= delta_r / 2
                                     (1 + e^eps) times the sum of their distances <= delta_r / 4
                  all other tasks:   sum of epsilons <= r eps, of deltas <= delta_r / 4

The first task of all is chosen before anything was released; it is allowed as well if it fits the limit by itself.
Theorems and proofs: ``mpcdp/privacy/README.md``, "Several tasks".

Source: Smith & Thakurta 2022 (arXiv:2210.17520) for the filter on the sum of mu^2; Rogers, Roth, Ullman & Vadhan 2016
(NeurIPS) for the one that adds up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mpcdp.config import LedgerLimit
from mpcdp.privacy.accountant import gaussian_epsilon, gaussian_mu
from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.mechanisms import distance_to_delta

__all__ = ["GaussianCost", "TaskCost", "allows", "composed_epsilon", "limit_of", "used_share"]

_RESERVES = (0.0, 0.25, 0.5, 0.75)
"""Parts of epsilon that the shares keep for tasks that are not one exact Gaussian."""

_LARGEST_EPSILON = 700.0
"""Beyond it e^epsilon leaves double precision, and no distance between two laws is small enough."""


_ALMOST_ONE = 1 - 2.0**-53


@dataclass(frozen=True, kw_only=True)
class GaussianCost:
    """A task whose releases are together one Gaussian mechanism, up to the noise's distance from a Gaussian.

    Args:
        mu_squared: the sum over all rounds of (sensitivity / standard deviation)^2, positive.
        distance: total variation between the noise that is sampled and a (rounded) Gaussian, over all rounds.

    Raises:
        ValueError: a number is out of range.
    """

    mu_squared: float
    distance: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mu_squared) and self.mu_squared > 0):
            raise ValueError(f"mu^2 is a positive finite number, not {self.mu_squared}")
        if not 0 <= self.distance <= 1:
            raise ValueError(f"a total variation lies between 0 and 1, not {self.distance}")


@dataclass(frozen=True, kw_only=True)
class TaskCost:
    """What one task costs, said in the ways that are known.

    Args:
        budget: (epsilon, delta) of all its releases.
        gaussian: the same as one Gaussian; None for Laplace noise and for samples of the records.
    """

    budget: PrivacyBudget
    gaussian: GaussianCost | None = None


@dataclass(frozen=True, kw_only=True)
class _AddingUp:
    """Basic composition within a part of a limit."""

    limit: PrivacyBudget

    def holds(self, costs: Sequence[TaskCost]) -> bool:
        return PrivacyBudget.sum(cost.budget for cost in costs).fits(self.limit)

    def used(self, costs: Sequence[TaskCost]) -> float:
        spent = PrivacyBudget.sum(cost.budget for cost in costs)
        return max(_part(spent.epsilon, self.limit.epsilon), _part(spent.delta, self.limit.delta))


@dataclass(frozen=True, kw_only=True)
class _Share:
    """A filter on the Gaussian tasks beside basic composition of all others.

    Args:
        mu_squared: bound on the sum of mu^2.
        distance: bound on the sum of distances.
        others: bound on the sum of the costs of all other tasks.
    """

    mu_squared: float
    distance: float
    others: PrivacyBudget

    def holds(self, costs: Sequence[TaskCost]) -> bool:
        mu_squared, distance, others = _totals(costs)
        return mu_squared <= self.mu_squared and distance <= self.distance and others.fits(self.others)

    def used(self, costs: Sequence[TaskCost]) -> float:
        mu_squared, distance, others = _totals(costs)
        return max(
            _part(mu_squared, self.mu_squared),
            _part(distance, self.distance),
            _part(others.epsilon, self.others.epsilon),
            _part(others.delta, self.others.delta),
        )


def limit_of(section: LedgerLimit | None) -> PrivacyBudget | None:
    """Return the limit in an owner's config, if it has one."""
    return None if section is None else PrivacyBudget(epsilon=section.epsilon_limit, delta=section.delta_limit)


def _part(spent: float, bound: float) -> float:
    return 0.0 if not spent else spent / bound if bound else math.inf


def allows(limit: PrivacyBudget, costs: Sequence[TaskCost]) -> bool:
    """Tell whether a limit that was fixed before the first task allows the last of these tasks after all others.

    Args:
        limit: its epsilon and delta are positive.
        costs: all tasks so far, the one in question last.

    Guarantees:
        If every task was asked about before its first release and refused tasks never ran, all releases of all tasks
        are together (epsilon, delta)-private, however tasks were chosen after seeing earlier releases.
    """
    if len(costs) == 1 and costs[0].budget.fits(limit):
        return True
    return any(share.holds(costs) for share in _shares(limit))


def used_share(limit: PrivacyBudget, costs: Sequence[TaskCost]) -> float:
    """Tell which part of a limit is used up: in the share that has most room left; above 1 when it was exceeded."""
    if not costs:
        return 0.0
    alone = [_AddingUp(limit=limit)] if len(costs) == 1 else []
    return min(share.used(costs) for share in (*alone, *_shares(limit)))


def composed_epsilon(costs: Sequence[TaskCost], *, delta: float) -> float:
    """Compute an epsilon for which tasks are together (epsilon, delta)-private, if results did not decide on them.

    The smaller one of two bounds: basic composition of all; and one Gaussian with the sum of the mu^2, with the others
    added up. Infinite when neither reaches so small a delta.

    Args:
        costs: of the tasks.
        delta: in (0, 1).
    """
    spent = PrivacyBudget.sum(cost.budget for cost in costs)
    adding_up = spent.epsilon if spent.delta <= delta else math.inf
    mu_squared, distance, others = _totals(costs)
    if not mu_squared:
        return adding_up
    # What the distances add to delta grows with the epsilon that is looked for: it is raised until it covers them.
    epsilon = others.epsilon
    while epsilon < min(adding_up, _LARGEST_EPSILON):
        left = delta - others.delta - distance_to_delta(distance, epsilon=epsilon)
        if left <= 0:
            break
        enough = others.epsilon + gaussian_epsilon(mu=math.sqrt(mu_squared), delta=min(left, _ALMOST_ONE))
        if enough <= epsilon:
            return epsilon
        epsilon = enough * (1 + 2.0**-20)
    return adding_up


def _totals(costs: Sequence[TaskCost]) -> tuple[float, float, PrivacyBudget]:
    """Add up mu^2 and distances of the Gaussian tasks, and the costs of all others."""
    gaussians = [cost.gaussian for cost in costs if cost.gaussian is not None]
    others = PrivacyBudget.sum(cost.budget for cost in costs if cost.gaussian is None)
    return math.fsum(one.mu_squared for one in gaussians), math.fsum(one.distance for one in gaussians), others


@lru_cache(maxsize=16)
def _shares(limit: PrivacyBudget) -> "tuple[_AddingUp | _Share, ...]":
    """Divide a limit; the deltas of the shares add up to the limit's."""
    adding_up = _AddingUp(limit=PrivacyBudget(epsilon=limit.epsilon, delta=limit.delta / 2))
    return adding_up, *(_share(limit, reserve) for reserve in _RESERVES)


def _share(limit: PrivacyBudget, reserve: float) -> _Share:
    delta = limit.delta / (2 * len(_RESERVES))
    return _Share(
        mu_squared=gaussian_mu(epsilon=(1 - reserve) * limit.epsilon, delta=delta / 2) ** 2,
        distance=delta / 4 / distance_to_delta(1.0, epsilon=min(limit.epsilon, _LARGEST_EPSILON)),
        others=PrivacyBudget(epsilon=reserve * limit.epsilon, delta=delta / 4),
    )
