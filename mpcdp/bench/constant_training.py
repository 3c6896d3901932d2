"""A task whose owners contribute a constant vector: what a round then costs is the protocol, not the computing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mpcdp.config import Section
from mpcdp.data.records import Records
from mpcdp.learning.method import TrainingState
from mpcdp.privacy.sensitivity import Norm, Relation, Sensitivity
from mpcdp.task import Task

__all__ = ["RECORD_COUNT", "ConstantTask", "ConstantTraining", "make_task"]

RECORD_COUNT = 2
"""Of every owner; the records themselves play no part."""

_EPSILON, _DELTA = 4.0, 1e-6
"""A usual budget at which a plan exists for every dimension and number of rounds that is worth measuring."""


@lru_cache(maxsize=1)
def _contribution(dimension: int) -> NDArray[np.float64]:
    vector = np.full(dimension, 0.5 / np.sqrt(dimension))
    vector.flags.writeable = False
    return vector


@dataclass(frozen=True)
class ConstantTraining:
    """A method with the shape and the privacy of gradients clipped to norm 1, and nothing to compute.

    Args:
        dimension: number of coordinates d of a contribution.
        rounds: number of releases T.
        parameter_count: number of coordinates of the model, which stays zero.
    """

    dimension: int
    rounds: int
    parameter_count: int

    @property
    def settings(self) -> Mapping[str, float | str]:
        return {}

    @property
    def sampling_rate(self) -> float:
        return 1.0

    def sensitivity(self, record_counts: Sequence[int]) -> Sensitivity:
        """Return that of a sum of clipped gradients."""
        return Sensitivity(norm=Norm.L2, bound=2.0, relation=Relation.REPLACE_ONE)

    def contribution_bound(self, record_count: int) -> float:
        return 1.0

    def contribution(self, dataset: Records, state: TrainingState, *, key: bytes) -> NDArray[np.float64]:
        """Return the same vector for everybody and ever, norm 1/2."""
        return _contribution(self.dimension)

    def initial_state(self) -> TrainingState:
        return self._state(0)

    def next_state(
        self,
        state: TrainingState,
        release_sum: NDArray[np.float64],
        *,
        record_count: int,
        noise_deviation: float = 0.0,
    ) -> TrainingState:
        return self._state(state.round_index + 1)

    def _state(self, round_index: int) -> TrainingState:
        model = np.zeros(self.parameter_count)
        return TrainingState(round_index=round_index, point=model, model=model)


class Shape(Section):
    """``[benchmark]``: what a round consists of.

    Args:
        dimension: number of coordinates d.
        rounds: number of releases T.
    """

    dimension: Annotated[int, Field(ge=1)]
    rounds: Annotated[int, Field(ge=1)]


class ConstantTask(Task):
    """A task with `ConstantTraining` as its method; everything else about it is as ever."""

    shape: Shape = Field(alias="benchmark")

    def method(self) -> ConstantTraining:
        return ConstantTraining(self.shape.dimension, self.shape.rounds, parameter_count=self.schema_.dimension)


def make_task(
    *,
    dimension: int,
    rounds: int,
    owners: Sequence[str],
    parties: Sequence[str],
    noise: Literal["joint", "per-party"],
    seconds: float,
) -> ConstantTask:
    """Put a task together.

    Args:
        dimension: number of coordinates d.
        rounds: number of releases T.
        owners: their names.
        parties: names of the compute parties by rank.
        noise: who samples it; joint noise has a dealer.
        seconds: all deadlines.
    """
    content = {
        "task": {"version": 1, "name": "benchmark"},
        "model": {"kind": "logistic-regression", "regularization": 1.0, "certificate": 1e-6},
        "method": {"kind": "output-perturbation"},
        "privacy": {"epsilon": _EPSILON, "delta": _DELTA, "mechanism": "gaussian", "noise": noise},
        "schema": {
            "label": {"column": "label", "classes": ["no", "yes"]},
            "features": [{"name": "feature", "lower": 0.0, "upper": 1.0}],
        },
        "deadlines": {"start_seconds": seconds, "contribution_seconds": seconds, "round_seconds": seconds},
        "coordinator": {"name": "coordinator"},
        "compute_parties": [{"name": name} for name in parties],
        "owners": [{"name": name, "record_count": RECORD_COUNT} for name in owners],
        "benchmark": {"dimension": dimension, "rounds": rounds},
    }
    return ConstantTask.model_validate(content | ({"dealer": {"name": "dealer"}} if noise == "joint" else {}))
