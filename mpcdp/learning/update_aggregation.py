"""Update aggregation: other software trains, and in every round the noised sum of the owners' updates is released.

Owner j contributes clip(u_j, C) in every round, u_j being whatever vector its software has computed, as a rule the
difference of a model after and before some steps on its own table. The sum over the owners is noised, revealed, and
divided by their public number; the model moves by that mean. This is FedAvg with equal weights.

**Theorem.** Replacing everything that one owner has (its table, its randomness, what it remembers of earlier rounds, so
all of its updates) moves the sum of contributions, in every round and given all earlier releases, by at most

    2 C                                                                      in the L2 norm.

*Proof.* Both contributions of that owner have norms of at most C as real numbers. Every other owner's contribution is
the same: it is a function of what that owner has and of what it was sent, which is a function of the releases.  []

So T rounds are T adaptively composed Gaussian mechanisms of sensitivity 2 C (`mpcdp.privacy.accountant.compose`), for
every model, optimiser and number of local steps. What makes the theorem wrong is a word that reaches owners, or
anybody, otherwise than through the releases, such as a loss on an owner's own table.

**Clipped means clipped.** A norm of d numbers errs by less than (d + 4) 2^-53 of itself; updates are shortened to
C (1 - 2^-32 - d 2^-52). One that is not finite, or whose norm is not, counts as zero.

Source: McMahan, Ramage, Talwar & Zhang, ICLR 2018 (arXiv:1710.06963), for clipping whole updates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.records import Records
from mpcdp.data.updates import UpdateFolder
from mpcdp.errors import PlanError
from mpcdp.learning.method import TrainingState
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity

__all__ = ["UpdateAggregation", "clip_update"]

_LARGEST_NORM = 1e100
"""Of C, and one over it the smallest: squares then stay in the range of double precision where it matters."""


def clip_update(update: NDArray[np.float64], clipping_norm: float) -> NDArray[np.float64]:
    """Shorten a vector to a norm, shape (d,).

    Guarantees:
        The result's L2 norm is at most ``clipping_norm`` as a real number. No value makes it fail.
    """
    shortened = clipping_norm * (1 - 2.0**-32 - update.size * 2.0**-52)
    with np.errstate(all="ignore"):
        norm = float(np.linalg.norm(update))
    if not np.isfinite(norm):
        return np.zeros(update.shape)
    return np.asarray(update if norm <= shortened else update * (shortened / norm), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class UpdateAggregation:
    """Rounds of noised sums of the owners' clipped updates.

    Args:
        dimension: d, coordinates of an update; at least 1.
        rounds: T, at least 1.
        clipping_norm: C, in [1e-100, 1e100].

    Raises:
        ValueError: an argument is out of range.
    """

    dimension: int
    rounds: int
    clipping_norm: float

    def __post_init__(self) -> None:
        if self.dimension < 1 or self.rounds < 1:
            raise ValueError(f"dimension and rounds are at least 1, not {self.dimension} and {self.rounds}")
        if not 1 / _LARGEST_NORM <= self.clipping_norm <= _LARGEST_NORM:
            raise ValueError(f"clipping_norm is between 1e-100 and 1e100, not {self.clipping_norm}")

    @property
    def parameter_count(self) -> int:
        return self.dimension

    @property
    def settings(self) -> Mapping[str, float | str]:
        return {"clipping_norm": self.clipping_norm}

    @property
    def sampling_rate(self) -> float:
        return 1.0

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        """Return 2 C in the L2 norm, when everything that one owner has is replaced (theorem above)."""
        if not record_counts or set(record_counts) != {1}:
            raise PlanError("record_count: every owner of an update counts as one record, and there is at least one")
        return Sensitivity(norm=Norm.L2, bound=2 * self.clipping_norm, relation=Relation.REPLACE_OWNER)

    def contribution_bound(self, record_count: int) -> float:
        """Return C."""
        return self.clipping_norm

    def contribution(self, dataset: Records, state: TrainingState, *, key: bytes) -> NDArray[np.float64]:
        """Clip the update of the next round, which is waited for; the key plays no part.

        Raises:
            ValueError: the owner has a table instead of updates, or updates of another dimension.
            PeerTimeout: there is no update in time.
        """
        if not isinstance(dataset, UpdateFolder) or dataset.dimension != self.dimension:
            raise ValueError(f"an owner needs a folder of updates of {self.dimension} coordinates")
        return clip_update(dataset.update(state.round_index), self.clipping_norm)

    def initial_state(self) -> TrainingState:
        nothing = np.zeros(self.dimension)
        return TrainingState(round_index=0, point=nothing, model=nothing)

    def next_state(
        self, state: TrainingState, release_sum: NDArray[np.float64], *, record_count: int, noise_deviation: float
    ) -> TrainingState:
        """Move by the mean update: the sum divided by the public number of owners behind it."""
        moved = state.model + release_sum / record_count
        return TrainingState(round_index=state.round_index + 1, point=moved, model=moved)
