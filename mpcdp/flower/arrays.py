"""Flower's named arrays as one vector, and back."""

from collections import OrderedDict

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from mpcdp.errors import InputError

__all__ = ["flat", "moved_by"]


def flat(arrays: ArrayRecord) -> NDArray[np.float64]:
    """Put all numbers one after the other, in double precision, shape (d,).

    Raises:
        InputError: an array is not one of floating-point numbers.
    """
    parts = []
    for name, array in arrays.items():
        values = array.numpy()
        if not np.issubdtype(values.dtype, np.floating):
            raise InputError(
                f"array {name!r}: has numbers of type {values.dtype}, which noise cannot be added to; leave it out of "
                "the model's arrays, such as the counters of a batch normalisation"
            )
        parts.append(values.astype(np.float64).ravel())
    return np.concatenate(parts) if parts else np.zeros(0)


def moved_by(arrays: ArrayRecord, movement: NDArray[np.float64]) -> ArrayRecord:
    """Add a vector to named arrays; names, shapes and types stay.

    Args:
        arrays: with d numbers in all.
        movement: shape (d,).
    """
    values, start = OrderedDict(), 0
    for name, array in arrays.items():
        old = array.numpy()
        step = movement[start : start + old.size].reshape(old.shape)
        values[name] = Array((old.astype(np.float64) + step).astype(old.dtype))
        start += old.size
    return ArrayRecord(values)
