"""What a training method is to everybody else: vectors in, a sum out, and a bound on one record's influence."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.privacy.sensitivity import Sensitivity

__all__ = ["Method"]


class Method(Protocol):
    """A way to train one model from sums of the owners' contributions.

    In each of `rounds` rounds every owner computes its `contribution` to the current model, the sum of the
    contributions is released with noise calibrated to `sensitivity`, and `next_model` turns it into the next model.
    """

    @property
    def rounds(self) -> int:
        """Number of releases."""
        ...

    @property
    def dimension(self) -> int:
        """Number of coordinates d of contributions and models."""
        ...

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        """Return the L2 sensitivity of one round's sum of contributions when one record of one owner is replaced.

        Args:
            record_counts: n_j of every owner that may take part; the bound holds for every subset of them.

        Raises:
            PlanError: the method cannot keep its promises in double precision for these counts.

        Guarantees:
            Holds for contributions as computed, rounding included, whatever models the coordinator sends.
        """
        ...

    def contribution_bound(self, record_count: int) -> float:
        """Return a bound on the L2 norm of the contribution of an owner with that many records, as computed."""
        ...

    def contribution(self, dataset: Dataset, model: NDArray[np.float64]) -> NDArray[np.float64]:
        """Compute one owner's vector for one round, shape (d,). No record's value makes it fail.

        Args:
            dataset: the owner's rows, dimension d.
            model: the current model, shape (d,).
        """
        ...

    def initial_model(self) -> NDArray[np.float64]:
        """Return the model before the first round, shape (d,)."""
        ...

    def next_model(
        self, model: NDArray[np.float64], release_sum: NDArray[np.float64], *, record_count: int
    ) -> NDArray[np.float64]:
        """Turn a released sum into the next model, shape (d,).

        Args:
            model: the current model, shape (d,).
            release_sum: the noised sum of contributions, shape (d,), in real units.
            record_count: N, the sum of the record counts of the owners whose contributions are in it.
        """
        ...
