"""The cost model finds the coefficients that made the times, and shows it when no coefficients did."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcdp.bench.cost_model import (
    CostModel,
    Observation,
    ServerModel,
    ServerObservation,
    fit_costs,
    fit_server,
)

PLACES = [
    *((40, 0.0, 10**6, owners) for owners in (10, 100, 1000)),
    *((40, 0.0, size, 10) for size in (10**7, 10**8)),
    *((60, trip, 10**6, 10) for trip in (0.001, 0.02, 0.1)),
]
models = st.builds(
    CostModel,
    start_seconds=st.floats(0.01, 10),
    rounds_factor=st.floats(0.01, 3),
    seconds_per_byte=st.floats(1e-10, 1e-6),
    seconds_per_owner=st.floats(1e-4, 0.1),
)


def observed(model: CostModel) -> list[Observation]:
    return [
        Observation(
            rounds,
            trip,
            sent,
            owners,
            model.predict(message_rounds=rounds, round_trip_seconds=trip, bytes_sent=sent, owners=owners),
        )
        for rounds, trip, sent, owners in PLACES
    ]


@given(models)
def test_known_coefficients_are_found(model: CostModel) -> None:
    found = fit_costs(observed(model))
    assert found.start_seconds == pytest.approx(model.start_seconds, rel=1e-5)
    assert found.rounds_factor == pytest.approx(model.rounds_factor, rel=1e-5)
    assert found.seconds_per_byte == pytest.approx(model.seconds_per_byte, rel=1e-5)
    assert found.seconds_per_owner == pytest.approx(model.seconds_per_owner, rel=1e-5)
    assert found.residuals == pytest.approx([0.0] * len(PLACES), abs=1e-6)


@given(models, st.integers(0, len(PLACES) - 1))
def test_residuals_show_what_does_not_fit(model: CostModel, wrong: int) -> None:
    some = observed(model)
    some[wrong] = replace(some[wrong], seconds=2 * some[wrong].seconds)
    found = fit_costs(some)
    for one, residual in zip(some, found.residuals, strict=True):
        fitted = found.predict(
            message_rounds=one.message_rounds,
            round_trip_seconds=one.round_trip_seconds,
            bytes_sent=one.bytes_sent,
            owners=one.owners,
        )
        assert residual == pytest.approx(one.seconds - fitted, abs=1e-9 * one.seconds)
    worst = max(abs(residual) / one.seconds for one, residual in zip(some, found.residuals, strict=True))
    assert worst > 0.01


@given(st.lists(st.floats(0.01, 100), min_size=len(PLACES), max_size=len(PLACES)))
def test_no_coefficient_is_negative_and_no_small_change_fits_better(seconds: list[float]) -> None:
    some = [Observation(*place, time) for place, time in zip(PLACES, seconds, strict=True)]
    found = fit_costs(some)
    coefficients = np.array([found.start_seconds, found.rounds_factor, found.seconds_per_byte, found.seconds_per_owner])
    assert (coefficients >= 0).all()
    table = np.array([[1, o.message_rounds * o.round_trip_seconds, o.bytes_sent, o.owners] for o in some])

    def error(values: np.ndarray) -> float:
        return float(np.sum((table @ values / np.array(seconds) - 1) ** 2))

    for index in range(4):
        step = np.zeros(4)
        step[index] = 1e-3 * max(seconds) / table[:, index].max()
        for changed in (coefficients + step, np.maximum(coefficients - step, 0)):
            assert error(changed) >= error(coefficients) * (1 - 1e-9)


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param([0, 1, 3], id="too few"),
        pytest.param([0, 1, 2, 3, 4], id="one round trip"),
        pytest.param([0, 3, 4, 5, 6, 7], id="one number of owners"),
    ],
)
def test_sessions_that_leave_a_coefficient_open_are_refused(kept: list[int]) -> None:
    some = observed(CostModel(1.0, 0.5, 1e-8, 0.01))
    with pytest.raises(ValueError, match="a fit takes"):
        fit_costs([some[index] for index in kept])


# -- one server --------------------------------------------------------------------------------------------------------

SERVER_PLACES = [*((10**6, owners) for owners in (10, 100, 1000)), (10**8, 10), (10**9, 10)]
server_models = st.builds(
    ServerModel,
    start_seconds=st.floats(0.01, 10),
    seconds_per_byte=st.floats(1e-10, 1e-6),
    seconds_per_owner=st.floats(1e-4, 0.1),
)


def served(model: ServerModel) -> list[ServerObservation]:
    return [
        ServerObservation(received, owners, model.predict(bytes_received=received, owners=owners))
        for received, owners in SERVER_PLACES
    ]


@given(server_models)
def test_the_coefficients_of_a_server_are_found(model: ServerModel) -> None:
    found = fit_server(served(model))
    assert found.start_seconds == pytest.approx(model.start_seconds, rel=1e-5)
    assert found.seconds_per_byte == pytest.approx(model.seconds_per_byte, rel=1e-5)
    assert found.seconds_per_owner == pytest.approx(model.seconds_per_owner, rel=1e-5)
    assert found.residuals == pytest.approx([0.0] * len(SERVER_PLACES), abs=1e-6)
    wanted = model.start_seconds + 7e8 * model.seconds_per_byte + 10**6 * model.seconds_per_owner
    assert found.predict(bytes_received=7e8, owners=10**6) == pytest.approx(wanted, rel=1e-5)


@given(server_models, st.integers(0, len(SERVER_PLACES) - 1))
def test_a_server_that_does_not_fit_shows_it(model: ServerModel, wrong: int) -> None:
    some = served(model)
    some[wrong] = replace(some[wrong], processor_seconds=2 * some[wrong].processor_seconds)
    found = fit_server(some)
    assert min(found.start_seconds, found.seconds_per_byte, found.seconds_per_owner) >= 0
    for one, residual in zip(some, found.residuals, strict=True):
        fitted = found.predict(bytes_received=one.bytes_received, owners=one.owners)
        assert residual == pytest.approx(one.processor_seconds - fitted, abs=1e-9 * one.processor_seconds)
    assert max(abs(each) / one.processor_seconds for each, one in zip(found.residuals, some, strict=True)) > 0.01


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        pytest.param([0, 3], "at least 3 sessions", id="too few"),
        pytest.param([0, 1, 2], "in their bytes and in their owners", id="the same bytes"),
        pytest.param([0, 3, 4], "in their bytes and in their owners", id="one number of owners"),
    ],
)
def test_sessions_that_say_too_little_of_a_server_are_refused(kept: list[int], problem: str) -> None:
    some = served(ServerModel(1.0, 1e-8, 0.01))
    with pytest.raises(ValueError, match=problem):
        fit_server([some[index] for index in kept])
