"""Sums of clipped per-record gradients of models that are linear in the features, without forming one of them.

Such a model has scores Theta x, Theta of shape (K, d) with one row per output, and the gradient of a record's loss is
the outer product a x' of a *residual* a, shape (K,), with its features. So its norm is ||a|| ||x||, and clipping it to
C multiplies a by min(1, C / (||a|| ||x||)):

=====================  ==============================  =================================
model                  loss of a record                residual
=====================  ==============================  =================================
margin losses, K = 1   l(y <theta, x>)                 l'(y <theta, x>) y
several classes        -log softmax(Theta x)_y         softmax(Theta x) - e_y
numbers, K = 1         (<theta, x> - y)^2 / 2          <theta, x> - y
=====================  ==============================  =================================

**Clipped means clipped.** Norms are computed with a relative error below 2^-34; residuals are shortened to
(1 - 2^-32) C, so that as real numbers no clipped gradient is longer than C. A record whose gradient is not finite, or
whose features are too short for its norm to be computed (below 2^-400), counts as zero: that depends on the record
alone, and so does everything else here.

**Rounding of the sum.** Rows are added within blocks of B and then block by block, so each coordinate of the computed
sum differs from the true one by at most gamma_k times the sum of its terms' magnitudes, k = min(n, B) + ceil(n / B)
(Higham 2002, section 3.1). Over all coordinates that is at most gamma_k n C in the L2 norm.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.data.records import Blocks
from mpcdp.learning.losses import Loss

__all__ = ["LinearModel", "MarginResiduals", "Residuals", "SoftmaxResiduals", "SquaredResiduals"]

_UNIT_ROUNDOFF = 2.0**-53
_BLOCK = 512
_SHORTENED = 1 - 2.0**-32
_SHORTEST_ROW = 2.0**-400


class Residuals(Protocol):
    """What a loss contributes to its gradient."""

    @property
    def outputs(self) -> int:
        """Number of scores K."""
        ...

    @property
    def bound(self) -> float:
        """Largest norm that a residual has in practice: 1 for margin losses; what clipping is measured against."""
        ...

    @property
    def smoothness(self) -> float:
        """Bound on the second derivative of a record's loss in its scores."""
        ...

    def residuals(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each record's residual, shape (n, K), from scores of shape (n, K) and labels of shape (n,)."""
        ...

    def losses(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each record's loss, shape (n,), from the same."""
        ...


@dataclass(frozen=True)
class MarginResiduals:
    """Two classes by a loss of the margin; labels -1 and +1."""

    loss: Loss

    @property
    def outputs(self) -> int:
        return 1

    @property
    def bound(self) -> float:
        return self.loss.lipschitz

    @property
    def smoothness(self) -> float:
        return self.loss.smoothness

    def residuals(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        signs = labels[:, np.newaxis]
        return np.asarray(self.loss.derivative(signs * scores) * signs)

    def losses(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.loss.value(labels * scores[:, 0])


@dataclass(frozen=True)
class SoftmaxResiduals:
    """Three or more classes by multinomial logistic regression; labels 0 .. K - 1."""

    outputs: int

    @property
    def bound(self) -> float:
        return math.sqrt(2)

    @property
    def smoothness(self) -> float:
        return 0.5

    def residuals(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares = powers / powers.sum(axis=1, keepdims=True)
        shares[np.arange(len(labels)), labels.astype(np.int64)] -= 1
        return np.asarray(shares)

    def losses(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        above = scores - scores.max(axis=1, keepdims=True)
        mine = above[np.arange(len(labels)), labels.astype(np.int64)]
        return np.asarray(np.log(np.exp(above).sum(axis=1)) - mine)


@dataclass(frozen=True)
class SquaredResiduals:
    """A number by least squares; labels in [-1, 1]. The loss is not Lipschitz: clipping is what bounds a record."""

    @property
    def outputs(self) -> int:
        return 1

    @property
    def bound(self) -> float:
        return 2.0

    @property
    def smoothness(self) -> float:
        return 1.0

    def residuals(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores - labels[:, np.newaxis]

    def losses(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(over="ignore"):
            return np.asarray((scores[:, 0] - labels) ** 2 / 2)


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """A model that is linear in the features, for training by gradients.

    Args:
        kind: loss, by its residuals.
        dimension: coordinates d of a row, the bias included; at least 1.

    Raises:
        ValueError: the dimension is below 1.
    """

    kind: Residuals
    dimension: int

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ValueError(f"dimension is at least 1, not {self.dimension}")

    @property
    def parameter_count(self) -> int:
        """Number of coordinates K d of a model."""
        return self.kind.outputs * self.dimension

    @property
    def gradient_bound(self) -> float:
        """What a record's gradient is at most in practice; rows lie in the unit ball."""
        return self.kind.bound

    @property
    def smoothness(self) -> float:
        """Bound on the second derivative of a record's loss in any direction."""
        return self.kind.smoothness

    @property
    def quadratic(self) -> bool:
        """Whether the loss has its largest second derivative everywhere."""
        return isinstance(self.kind, SquaredResiduals)

    @property
    def fingerprint(self) -> str:
        """What the first model is."""
        return "zeros"

    def initial_parameters(self) -> NDArray[np.float64]:
        """Return zeros, shape (K d,)."""
        return np.zeros(self.parameter_count)

    def summation_error(self, record_count: int) -> float:
        """Bound the L2 error of a computed sum of so many gradients, per unit of clipping norm."""
        terms = min(record_count, _BLOCK) + math.ceil(record_count / _BLOCK) + 1
        return record_count * terms * _UNIT_ROUNDOFF / (1 - terms * _UNIT_ROUNDOFF)

    @property
    def block_size(self) -> int:
        """Rows that are added up at a time."""
        return _BLOCK

    def clipped_sum(
        self, dataset: Blocks, parameters: NDArray[np.float64], *, clipping_norm: float
    ) -> NDArray[np.float64]:
        """Add up the records' gradients, each clipped to a norm, shape (K d,).

        Args:
            dataset: n rows of dimension d; n may be 0 rows selected from it.
            parameters: where the gradients are taken, shape (K d,).
            clipping_norm: C, positive.

        Raises:
            ValueError: the table's dimension is not the model's.
        """
        if dataset.dimension != self.dimension:
            raise ValueError(f"a table of dimension {dataset.dimension} does not fit a model of {self.dimension}")
        theta = parameters.reshape(self.kind.outputs, self.dimension)
        total = np.zeros(self.parameter_count)
        for part in dataset.map_blocks(partial(self._block_sum, theta=theta, clipping_norm=clipping_norm), _BLOCK):
            total += part
        return total

    def losses(self, scores: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each record's loss, shape (n,), from scores of shape (n, K) and labels of shape (n,)."""
        return self.kind.losses(scores, labels)

    def _block_sum(
        self, block: Dataset, first: int, *, theta: NDArray[np.float64], clipping_norm: float
    ) -> NDArray[np.float64]:
        """Add up a block's clipped gradients, shape (K d,)."""
        return np.asarray((self._clipped_residuals(block, theta, clipping_norm).T @ block.features).reshape(-1))

    def _clipped_residuals(
        self, block: Dataset, theta: NDArray[np.float64], clipping_norm: float
    ) -> NDArray[np.float64]:
        """Return the residuals of a block's records, shortened to their clipped gradients, shape (n, K)."""
        rows = block.features
        with np.errstate(all="ignore"):  # what is not finite counts as zero
            residuals = self.kind.residuals(rows @ theta.T, block.labels)
            lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
            norms = np.sqrt(np.einsum("ij,ij->i", residuals, residuals)) * lengths
            factors = np.minimum(1.0, _SHORTENED * clipping_norm / norms)
            factors[~(np.isfinite(norms) & (lengths >= _SHORTEST_ROW))] = 0.0
            factors[norms == 0] = 1.0
            return np.asarray(np.where(np.isfinite(residuals), residuals, 0.0) * factors[:, np.newaxis])
