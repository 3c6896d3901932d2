"""What a training method is to everybody else: vectors in, sums out, and a bound on one record's influence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.records import Records
from mpcdp.privacy.sensitivity import Sensitivity

__all__ = ["Method", "TrainingState"]


def _nothing() -> NDArray[np.float64]:
    return np.zeros(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """Where a training stands between two rounds: a function of the task and of the releases so far, hence public.

    Args:
        round_index: number of releases that went into it.
        point: where the next contributions are computed, shape (p,).
        model: what the session hands out if no further round takes place, shape (p,).
        memory: what the method's update remembers besides, such as a velocity; its shape is the method's affair.
    """

    round_index: int
    point: NDArray[np.float64]
    model: NDArray[np.float64]
    memory: NDArray[np.float64] = field(default_factory=_nothing)


class Method(Protocol):
    """A way to train one model from sums of the owners' contributions.

    In each of `rounds` rounds every owner computes its `contribution` in the current state, the sum of the
    contributions is released with noise calibrated to `sensitivity`, and `next_state` takes the release in. Everybody
    who sees the releases can follow the state: it is post-processing.
    """

    @property
    def rounds(self) -> int:
        """Number of releases T."""
        ...

    @property
    def dimension(self) -> int:
        """Number of coordinates d of a contribution."""
        ...

    @property
    def parameter_count(self) -> int:
        """Number of coordinates p of a model."""
        ...

    @property
    def settings(self) -> Mapping[str, float | str]:
        """What everybody has to agree on besides the task, by name: numbers that rules have chosen, for example."""
        ...

    @property
    def sampling_rate(self) -> float:
        """Probability q of each record to take part in a round; 1 when all of them do."""
        ...

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        """Return the L2 sensitivity of one round's sum of contributions when one record of one owner is replaced.

        Args:
            record_counts: n_j of every owner that may take part; the bound holds for every subset of them.

        Raises:
            PlanError: the method cannot keep its promises in double precision for these counts.

        Guarantees:
            Holds for contributions as computed, rounding included, in every state, whatever releases led to it.
        """
        ...

    def contribution_bound(self, record_count: int) -> float:
        """Return a bound on the L2 norm of the contribution of an owner with that many records, as computed."""
        ...

    def contribution(self, dataset: Records, state: TrainingState, *, key: bytes) -> NDArray[np.float64]:
        """Compute one owner's vector for one round, shape (d,). No record's value makes it fail.

        Args:
            dataset: the owner's rows; what they give does not depend on how they are stored.
            state: the current state.
            key: 32 bytes that only this owner knows, for this round of this session alone: what a method draws at
                random, such as a sample of the records, is a function of it, so that a repetition draws the same.
        """
        ...

    def initial_state(self) -> TrainingState:
        """Return the state before the first round."""
        ...

    def next_state(
        self, state: TrainingState, release_sum: NDArray[np.float64], *, record_count: int, noise_deviation: float
    ) -> TrainingState:
        """Take a released sum in.

        Args:
            state: the current state.
            release_sum: the noised sum of contributions, shape (d,), in real units.
            record_count: N, the sum of the record counts of the owners whose contributions are in it.
            noise_deviation: standard deviation of all noise on one coordinate of it, in real units; 0 without noise.
        """
        ...
