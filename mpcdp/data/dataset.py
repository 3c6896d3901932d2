"""Rows in the unit ball with their labels, and the clipping that puts them there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLIPPED_NORM", "BlockFunction", "Dataset", "clip_rows", "map_in_order"]

CLIPPED_NORM = 1 - 2.0**-32
"""The length that longer rows are shortened to."""

_ACCEPTED_NORM = 1 - 2.0**-33
# A norm of d <= 2^18 coordinates computed in any order, and the division and the product that shorten a row, err by
# less than (d/2 + 4) 2^-53 < 2^-35 of it. So a row shortened to CLIPPED_NORM always passes _ACCEPTED_NORM, and a row
# that passes it has a norm below 1 as a real number: the bounds on sensitivity need no rounding term for the norm.


def _norms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows' computed L2 norms, shape (n,)."""
    with np.errstate(over="ignore"):
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)), dtype=np.float64)


def clip_rows(rows: NDArray[np.float64], *, radius: float = 1.0) -> NDArray[np.float64]:
    """Divide rows by a public radius, then shorten those outside the unit ball to its surface.

    Args:
        rows: shape (n, d), finite, d <= 2^18.
        radius: public length that becomes 1; positive.

    Returns:
        The clipped rows, shape (n, d).

    Guarantees:
        Every row's norm is below 1 as a real number, rounding included, and depends on that row and ``radius`` alone.
        A row too long for double precision (norm beyond 1e154) becomes zero.
    """
    norms = _norms(rows)
    with np.errstate(divide="ignore"):  # a row of zeros: the quotient is infinite and the minimum is 1 / radius
        factors = np.minimum(1 / radius, CLIPPED_NORM / norms)
    return np.asarray(rows * factors[:, np.newaxis], dtype=np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """One owner's records as a method sees them. Its repr shows nothing but its public size.

    Args:
        features: rows with the bias coordinate, shape (n, d), float64, norm below 1 (see `clip_rows`); n, d >= 1.
        labels: shape (n,), float64. Both arrays are taken over and made read-only.
        class_count: what labels may be: 2, each -1 or +1; K >= 3, each the index 0 .. K - 1 of its class; 0, numbers in
            [-1, 1]. Public, from the schema.

    Raises:
        ValueError: a shape, a type, a norm or a label is not as stated; the text carries no value of a record.

    Guarantees:
        The norm of every row is at most 1 as a real number. A row of zeros has no influence on a linear model.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.float64]
    class_count: int = 2

    def __post_init__(self) -> None:
        features, labels = self.features, self.labels
        if features.ndim != 2 or labels.shape != features.shape[:1] or 0 in features.shape:
            raise ValueError(f"features are (n, d) and labels (n,), n, d >= 1, not {features.shape} and {labels.shape}")
        if features.dtype != np.float64 or labels.dtype != np.float64:
            raise ValueError(f"features and labels are float64, not {features.dtype} and {labels.dtype}")
        if not np.all(_norms(features) <= _ACCEPTED_NORM):
            raise ValueError("a row lies outside the unit ball or is not finite; pass the rows through clip_rows")
        self._check_labels()
        features.flags.writeable = False
        labels.flags.writeable = False

    def _check_labels(self) -> None:
        labels, classes = self.labels, self.class_count
        if classes == 2:
            if not np.all(np.abs(labels) == 1):
                raise ValueError("labels of two classes are -1 or +1")
        elif classes >= 3:
            if not np.all((labels >= 0) & (labels < classes) & (labels == np.floor(labels))):
                raise ValueError(f"labels of {classes} classes are whole numbers from 0 to {classes - 1}")
        elif classes == 0:
            if not np.all(np.abs(labels) <= 1):
                raise ValueError("labels that are numbers lie in [-1, 1]")
        else:
            raise ValueError(f"class_count is 0 for numbers, or at least 2, not {classes}")

    def __repr__(self) -> str:
        return f"Dataset(<redacted>, record_count={self.record_count}, dimension={self.dimension})"

    @property
    def record_count(self) -> int:
        """Number of records n."""
        return int(self.features.shape[0])

    @property
    def dimension(self) -> int:
        """Number of coordinates d of a row, the bias included."""
        return int(self.features.shape[1])

    def blocks(self, size: int) -> Iterator["Dataset"]:
        """Yield the rows in order, in parts of ``size``; the last one may be shorter."""
        for start in range(0, self.record_count, size):
            yield self._part(slice(start, start + size))

    def map_blocks(self, function: "BlockFunction", size: int) -> Iterator[NDArray[np.float64]]:
        """Compute a function of every block of ``size`` rows, and yield its values in order."""
        return map_in_order(function, self.blocks(size), size)

    def select(self, chosen: NDArray[np.bool_]) -> "Dataset":
        """Return the chosen rows, at least one.

        Raises:
            ValueError: none is chosen.
        """
        if not chosen.any():
            raise ValueError("a dataset has at least one row")
        return self._part(chosen)

    def part(self, start: int, end: int) -> "Dataset":
        """Return some consecutive rows, at least one."""
        return self._part(slice(start, end))

    @classmethod
    def joined(cls, parts: Sequence["Dataset"]) -> "Dataset":
        """Return the rows of several datasets, at least one, one after the other, in arrays of their own."""
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.labels for part in parts]),
            parts[0].class_count,
        )

    def in_memory(self) -> "Dataset":
        """Return these records: they are in memory."""
        return self

    def _part(self, rows: slice | NDArray[np.bool_]) -> "Dataset":
        """Return some rows without checking them again: they passed as parts of this dataset."""
        part = object.__new__(Dataset)
        object.__setattr__(part, "features", self.features[rows])
        object.__setattr__(part, "labels", self.labels[rows])
        object.__setattr__(part, "class_count", self.class_count)
        return part


BlockFunction = Callable[[Dataset, int], NDArray[np.float64]]
"""A vector computed of a block of rows and the index of its first row; the same wherever it is computed."""


def map_in_order(function: BlockFunction, blocks: Iterator[Dataset], size: int) -> Iterator[NDArray[np.float64]]:
    """Compute a function of one block after the other; all but the last have ``size`` rows."""
    return (function(block, number * size) for number, block in enumerate(blocks))
