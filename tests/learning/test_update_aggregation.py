"""Update aggregation: clipped means clipped, one owner moves a sum by 2 C, and the model is what FedAvg gives."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from mpcdp.data.dataset import Dataset
from mpcdp.data.updates import UpdateFolder
from mpcdp.errors import PlanError
from mpcdp.learning.update_aggregation import UpdateAggregation, clip_update
from mpcdp.privacy.sensitivity import Norm, Relation

ANY = st.floats(allow_nan=True, allow_infinity=True)
METHOD = UpdateAggregation(dimension=3, rounds=4, clipping_norm=0.7)


def _contribution(folder: Path, *updates: list[float]) -> NDArray[np.float64]:
    """What an owner with these updates contributes in the round of the last one."""
    found = UpdateFolder(folder, dimension=3, patience_seconds=0.0)
    state = METHOD.initial_state()
    for number, update in enumerate(updates):
        found.store(number, np.array(update))
        contribution = METHOD.contribution(found, state, key=bytes(32))
        state = METHOD.next_state(state, contribution, record_count=1, noise_deviation=0.0)
    return contribution


@given(
    update=arrays.arrays(np.float64, st.integers(1, 40), elements=ANY),
    norm=st.sampled_from([1e-100, 1e-7, 0.3, 1.0, 17.0, 1e100]),
)
def test_a_clipped_update_is_no_longer_than_the_norm_as_a_real_number(update: NDArray[np.float64], norm: float) -> None:
    clipped = clip_update(update, norm)
    assert sum(Fraction(value) ** 2 for value in clipped.tolist()) <= Fraction(norm) ** 2


@given(update=arrays.arrays(np.float64, 5, elements=st.floats(-1.0, 1.0)), factor=st.floats(1.0, 1e6))
def test_clipping_keeps_short_updates_and_the_direction_of_long_ones(
    update: NDArray[np.float64], factor: float
) -> None:
    assert np.array_equal(clip_update(update, 2.3), update)
    long = update * factor
    clipped, length = clip_update(long, 1.0), float(np.linalg.norm(long))
    np.testing.assert_allclose(clipped, long / max(1.0, length), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e308])
def test_what_is_not_finite_counts_as_zero(tmp_path: Path, value: float) -> None:
    assert np.array_equal(_contribution(tmp_path, [value, 1.0, value]), np.zeros(3))


@given(before=st.lists(ANY, min_size=3, max_size=3), after=st.lists(ANY, min_size=3, max_size=3))
def test_one_owner_moves_a_sum_by_at_most_2_c(before: list[float], after: list[float]) -> None:
    sensitivity = METHOD.sensitivity([1, 1, 1])
    assert (sensitivity.norm, sensitivity.relation) == (Norm.L2, Relation.REPLACE_OWNER)
    moved = [
        Fraction(a) - Fraction(b)
        for a, b in zip(clip_update(np.array(after), 0.7), clip_update(np.array(before), 0.7), strict=True)
    ]
    assert sum(step * step for step in moved) <= Fraction(sensitivity.bound) ** 2


def test_it_is_nearly_attained(tmp_path: Path) -> None:
    apart = _contribution(tmp_path / "a", [9.0, 0.0, 0.0]) - _contribution(tmp_path / "b", [-9.0, 0.0, 0.0])
    assert np.linalg.norm(apart) == pytest.approx(METHOD.sensitivity([1]).bound, rel=1e-9)


def test_every_round_contributes_its_own_update(tmp_path: Path) -> None:
    assert np.array_equal(_contribution(tmp_path, [0.1, 0.0, 0.0], [0.0, 0.2, 0.0]), [0.0, 0.2, 0.0])


def test_the_model_moves_by_the_mean_over_the_owners_of_each_round() -> None:
    state = METHOD.next_state(METHOD.initial_state(), np.array([3.0, 0.0, 6.0]), record_count=3, noise_deviation=1.0)
    state = METHOD.next_state(state, np.array([1.0, 1.0, 0.0]), record_count=2, noise_deviation=1.0)
    assert state.round_index == 2
    np.testing.assert_allclose(state.model, [1.5, 0.5, 2.0])


def test_an_owner_counts_as_one_record_and_has_updates_of_the_right_size(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="counts as one record"):
        METHOD.sensitivity([1, 2])
    with pytest.raises(ValueError, match="updates of 3 coordinates"):
        METHOD.contribution(UpdateFolder(tmp_path, dimension=4, patience_seconds=0.0), METHOD.initial_state(), key=b"")
    with pytest.raises(ValueError, match="needs a folder of updates"):
        METHOD.contribution(Dataset(np.zeros((1, 3)), np.ones(1)), METHOD.initial_state(), key=b"")


@pytest.mark.parametrize(
    "wrong",
    [{"dimension": 0}, {"rounds": 0}, {"clipping_norm": 0.0}, {"clipping_norm": np.nan}, {"clipping_norm": 1e101}],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"least 1|between"):
        UpdateAggregation(**{"dimension": 3, "rounds": 1, "clipping_norm": 1.0, **wrong})  # type: ignore[arg-type]
