"""Gradient perturbation: in every round the noised sum of all records' clipped gradients takes one step.

Owner j contributes the sum over its records i of clip(grad l_i(theta), C); the sum over the owners is noised and
revealed as r, and everybody takes the step

    theta <- P( theta + momentum (theta - theta_before) - eta (r / (q N) + lambda theta) ) ,

P being the projection on a ball, if there is one. Regulariser, momentum, projection and the average of the last half of
the points are functions of what was revealed: they cost nothing.

**Theorem.** Replacing one record of one owner moves the sum of contributions, in every round and wherever theta is, by
at most

    2 C + 2 E(max_j n_j) C                                                   in the L2 norm,

E(n) C bounding the rounding of a sum of n gradients. *Proof.* The gradients of all other records are the same, as each
depends on its own record and on theta alone; that of the replaced record has norm at most C before and after. The two
sums are computed with an error of at most E(n_j) C each.  []

The models need not be convex; the losses need not be Lipschitz. What is needed is that a record's gradient depends on
no other record.

**Sub-sampling.** With a rate q < 1 each owner draws, for every round, which of its records take part: each on its own
with probability q, by a keystream of a key that only this owner knows. The divisor is the public q N, never the number
drawn. How much that is worth is the accountant's affair (`mpcdp.privacy.subsampling`): a record that is not drawn
changes nothing at all, and one that is moves the sum by at most C + 2 E C away from what it would be without it.

Source: Jayaraman et al., NeurIPS 2018, Theorem 3.4; Abadi et al., CCS 2016, for the clipping.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import BlockFunction, Dataset
from mpcdp.data.records import Blocks, Records
from mpcdp.errors import PlanError
from mpcdp.learning.method import TrainingState
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity
from mpcdp.secret_sharing.randomness import KeyStream

__all__ = ["SAMPLING_STEPS", "GradientPerturbation", "PerRecordGradients"]

SAMPLING_STEPS = 2**32
"""Sampling rates are multiples of its inverse, so that a comparison of words has exactly that probability."""

_UPWARD = 1 + 2.0**-40  # covers the rounding of the bounds' own evaluation


class PerRecordGradients(Protocol):
    """A model that can be trained by gradients."""

    @property
    def parameter_count(self) -> int:
        """Number of coordinates p of a model."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tell first models apart, for people and for the plan's digest."""
        ...

    def initial_parameters(self) -> NDArray[np.float64]:
        """Return the public first model, shape (p,)."""
        ...

    def summation_error(self, record_count: int) -> float:
        """Bound the L2 error of a computed sum of so many gradients, per unit of clipping norm."""
        ...

    def clipped_sum(
        self, dataset: Blocks, parameters: NDArray[np.float64], *, clipping_norm: float
    ) -> NDArray[np.float64]:
        """Add up the records' gradients, each clipped to a norm, shape (p,).

        Guarantees:
            A record's term depends on that record and the parameters alone; its norm is at most ``clipping_norm`` as a
            real number, and zero where the gradient is not finite. No record's value makes it fail.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class GradientPerturbation:
    """Training by noised sums of clipped gradients.

    Args:
        model: whose gradients are taken.
        rounds: T, at least 1.
        learning_rate: eta, positive.
        clipping_norm: C, positive.
        regularization: lambda, at least 0.
        momentum: in [0, 1).
        averaging: whether the released model is the mean of the last half of the points, or the last one.
        radius: of the ball that points are projected on; None for no projection.
        sampling_rate: q, in (0, 1], a multiple of 1 / `SAMPLING_STEPS`.

    Raises:
        ValueError: an argument is out of range.
    """

    model: PerRecordGradients
    rounds: int
    learning_rate: float
    clipping_norm: float
    regularization: float = 0.0
    momentum: float = 0.0
    averaging: bool = True
    radius: float | None = None
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is at least 1, not {self.rounds}")
        for name in ("learning_rate", "clipping_norm", "radius"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is a positive finite number, not {value}")
        if not (math.isfinite(self.regularization) and self.regularization >= 0 and 0 <= self.momentum < 1):
            raise ValueError("regularization is at least 0 and finite, momentum in [0, 1)")
        if not (0 < self.sampling_rate <= 1 and (self.sampling_rate * SAMPLING_STEPS).is_integer()):
            raise ValueError(f"sampling_rate is a multiple of 2^-32 in (0, 1], not {self.sampling_rate}")

    @property
    def dimension(self) -> int:
        return self.model.parameter_count

    @property
    def parameter_count(self) -> int:
        return self.model.parameter_count

    @property
    def settings(self) -> Mapping[str, float | str]:
        """What everybody has to agree on besides the task, by name."""
        return {
            "learning_rate": self.learning_rate,
            "clipping_norm": self.clipping_norm,
            "regularization": self.regularization,
            "momentum": self.momentum,
            "averaging": "last half" if self.averaging else "none",
            "radius": "none" if self.radius is None else self.radius,
            "sampling_rate": self.sampling_rate,
            "first_parameters": self.model.fingerprint,
        }

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        """Return 2 C and what rounding adds, in the L2 norm (theorem above)."""
        if not record_counts or min(record_counts) < 1:
            raise PlanError("record_count: every owner needs at least one record, and there is at least one owner")
        error = self.model.summation_error(max(record_counts))
        bound = 2 * self.clipping_norm * (1 + error) * _UPWARD
        return Sensitivity(norm=Norm.L2, bound=bound, relation=Relation.REPLACE_ONE)

    def contribution_bound(self, record_count: int) -> float:
        """Return n C, rounding included."""
        return self.clipping_norm * (record_count + self.model.summation_error(record_count)) * _UPWARD

    def contribution(self, dataset: Records, state: TrainingState, *, key: bytes) -> NDArray[np.float64]:
        """Add up the clipped gradients of one owner's records, or of those that are drawn for this round."""
        drawn = dataset if self.sampling_rate == 1 else _Sample(dataset, self.sampling_rate, key)
        return self.model.clipped_sum(drawn, state.point, clipping_norm=self.clipping_norm)

    def initial_state(self) -> TrainingState:
        point = self.model.initial_parameters()
        return TrainingState(round_index=0, point=point, model=point, memory=np.zeros((2, point.size)))

    def next_state(
        self, state: TrainingState, release_sum: NDArray[np.float64], *, record_count: int, noise_deviation: float
    ) -> TrainingState:
        """Take one step; ``memory`` holds the last step and the sum of the points that are averaged."""
        velocity, total = state.memory
        mean = release_sum / (self.sampling_rate * record_count) + self.regularization * state.point
        velocity = self.momentum * velocity - self.learning_rate * mean
        point = state.point + velocity
        if self.radius is not None:
            point = point * min(1.0, self.radius / max(float(np.linalg.norm(point)), 1e-300))
            velocity = point - state.point
        index = state.round_index + 1
        averaged = index - self.rounds // 2  # how many points of the last half there are by now
        total = total + point if averaged > 0 else total
        model = total / averaged if self.averaging and averaged > 0 else point
        return TrainingState(round_index=index, point=point, model=model, memory=np.stack([velocity, total]))


@dataclass(frozen=True, repr=False)
class _Sample:
    """The records of a round: each with a probability, by one word of a keystream each, in the table's order.

    A block of a sample holds what was drawn of a block of the table.
    """

    records: Blocks
    rate: float
    key: bytes

    @property
    def dimension(self) -> int:
        return self.records.dimension

    def map_blocks(self, function: BlockFunction, size: int) -> Iterator[NDArray[np.float64]]:
        return self.records.map_blocks(partial(self._of_drawn, function, self.rate, self.key), size)

    @staticmethod
    def _of_drawn(function: BlockFunction, rate: float, key: bytes, block: Dataset, first: int) -> NDArray[np.float64]:
        """Compute a function of what is drawn of a block; nothing, when nothing is."""
        words = KeyStream(key, skip=first).words(block.record_count).view(np.uint64)
        selected = (words >> np.uint64(32)) < np.uint64(round(rate * SAMPLING_STEPS))
        return function(block.select(selected), first) if selected.any() else np.zeros(())
