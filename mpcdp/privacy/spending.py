"""What an owner's tasks have cost together and how much of its limit that is, by the rule its ledger follows."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import TaskCost, allows, composed_epsilon, used_share

__all__ = ["Spending"]

_FREE = TaskCost(budget=PrivacyBudget(epsilon=0.0, delta=0.0))


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What was paid, added up, composed and as a part of the limit.

    Args:
        added_up: the tasks' costs by basic composition.
        composed_epsilon: with Gaussian tasks as one (`mpcdp.privacy.composition.composed_epsilon`) at `delta`; infinite
            where no composition reaches so small a delta.
        delta: the limit's, or what was added up when there is none.
        limit: what the owner granted; None if unknown or unlimited.
        used: which part of the limit is used up, above 1 when it was exceeded
            (`mpcdp.privacy.composition.used_share`); None without a limit.
        used_up: whether no further task is allowed, however little it costs. A single task may need more than any share
            of the limit, but not all of the limit, and is the last one then.
    """

    added_up: PrivacyBudget
    composed_epsilon: float
    delta: float
    limit: PrivacyBudget | None
    used: float | None
    used_up: bool

    @classmethod
    def of(cls, costs: Iterable[TaskCost], limit: PrivacyBudget | None) -> Self:
        """Work out what tasks have cost together."""
        paid = tuple(costs)
        added_up = PrivacyBudget.sum(cost.budget for cost in paid)
        delta = added_up.delta if limit is None else limit.delta
        used = None if limit is None else used_share(limit, paid)
        return cls(
            added_up=added_up,
            composed_epsilon=composed_epsilon(paid, delta=delta),
            delta=delta,
            limit=limit,
            used=used,
            used_up=limit is not None and used is not None and (used >= 1 or not allows(limit, [*paid, _FREE])),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as one JSON object; null where one is not finite."""
        limit = self.limit and {
            "epsilon": self.limit.epsilon,
            "delta": self.limit.delta,
            "used": _finite(self.used),
            "used_up": self.used_up,
        }
        return {
            "added_up": {"epsilon": self.added_up.epsilon, "delta": self.added_up.delta},
            "composed": {"epsilon": _finite(self.composed_epsilon), "delta": self.delta},
            "limit": limit,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
