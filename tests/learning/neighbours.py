"""Pairs of neighbouring tables, and how far a method's contribution moves between them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset, clip_rows
from mpcdp.learning.method import Method

__all__ = ["hard_replacements", "moved", "replace_record", "worst_case_pair"]


def replace_record(dataset: Dataset, index: int, row: NDArray[np.float64], label: float) -> Dataset:
    """Return the neighbour in which one record is replaced."""
    features, labels = dataset.features.copy(), dataset.labels.copy()
    features[index], labels[index] = row, label
    return Dataset(clip_rows(features), labels, dataset.class_count)


def moved(method: Method, dataset: Dataset, neighbour: Dataset) -> float:
    """Return how far the sum of all owners' contributions moves, the other owners' being the same."""
    state = method.initial_state()
    key = bytes(32)
    before, after = (method.contribution(table, state, key=key) for table in (dataset, neighbour))
    return float(np.linalg.norm(before - after))


def hard_replacements(
    dataset: Dataset, theta: NDArray[np.float64], pool: Dataset, rng: np.random.Generator
) -> Iterator[tuple[Dataset, Dataset]]:
    """Yield neighbouring tables around a trained model, from ordinary to the worst we know for this table.

    Args:
        dataset: an owner's table.
        theta: the model trained on it.
        pool: other records of the same population.
        rng: picks records.
    """
    index = int(rng.integers(dataset.record_count))
    other = int(rng.integers(pool.record_count))
    yield dataset, replace_record(dataset, index, pool.features[other], pool.labels[other])
    yield dataset, replace_record(dataset, index, np.zeros(dataset.dimension), 1.0)
    yield dataset, replace_record(dataset, index, dataset.features[index], -dataset.labels[index])
    # The record with the largest margin gives way to one the model gets most wrong.
    direction = theta / np.linalg.norm(theta)
    surest = int(np.argmax(dataset.labels * (dataset.features @ theta)))
    yield dataset, replace_record(dataset, surest, -direction, 1.0)
    # Two records that the model gets wrong both, and that pull it in opposite directions where its table is silent.
    _, directions = np.linalg.eigh(dataset.features.T @ dataset.features)
    silent = directions[:, 0] - direction * (directions[:, 0] @ direction)
    silent /= np.linalg.norm(silent)
    for lean in (0.1, 0.3, 0.5):
        for label in (-1.0, 1.0):
            wrong, pull = -label * lean * direction, np.sqrt(1 - lean**2) * silent
            yield (
                replace_record(dataset, index, wrong + pull, label),
                replace_record(dataset, index, wrong - pull, label),
            )


def worst_case_pair(record_count: int, dimension: int, *, lean: float) -> tuple[Dataset, Dataset]:
    """Construct neighbours that attain nearly the whole bound: 2 G / lambda as lean -> 0 and the margin stays large.

    All records but one are (1, 0, ...), labelled +1, and drive theta_1 up. The last one has the label -1 and is
    (lean, +-sqrt(1 - lean^2), 0, ...): wrong by lean theta_1, so its slope is nearly G, pulling theta_2 down or up,
    where nothing but the regulariser resists.
    """
    features = np.zeros((record_count, dimension))
    features[:, 0] = 1.0
    labels = np.ones(record_count)
    base = Dataset(clip_rows(features), labels)
    row = np.zeros(dimension)
    row[0], row[1] = lean, np.sqrt(1 - lean**2)
    mirrored = row.copy()
    mirrored[1] = -row[1]
    return replace_record(base, 0, row, -1.0), replace_record(base, 0, mirrored, -1.0)
