"""Very many owners: the servers' models find what made the figures, and the simulation does what it says."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from protocol_samples import ROWS, made_up_row, made_up_simulation

from mpcdp.bench import many_owners, party_simulation
from mpcdp.bench.many_owners import SERVERS, Simulation, predict, simulate
from mpcdp.bench.party_simulation import PartySimulation, simulate_party
from mpcdp.bench.server_probe import COORDINATOR, PARTY, ServerProbe, measure_server
from mpcdp.bench.slow_network import Link
from mpcdp.roles.journal import PartyJournal
from mpcdp.transport.messages import Enrolment

MILLION = 1_000_000


def test_each_server_has_a_model_of_its_own() -> None:
    many = predict(ROWS, owners=MILLION, simulation=made_up_simulation)
    assert tuple(many.servers) == SERVERS
    coordinator, first, last = many.servers.values()
    assert (coordinator.model.start_seconds, coordinator.model.seconds_per_owner) == pytest.approx((0.1, 0.001))
    for party in (first, last):
        found = (party.model.start_seconds, party.model.seconds_per_byte, party.model.seconds_per_owner)
        assert found == pytest.approx((0.5, 2e-8, 0.002))
    # The bytes are those of the rows that differ in their owners alone: 100 coordinates.
    assert coordinator.bytes_received == pytest.approx(50 * MILLION + 800)
    assert first.bytes_received == pytest.approx(300 * MILLION + 500_000)
    assert last.bytes_received == pytest.approx(1500 * MILLION + 500_000)
    assert last.predicted_seconds == pytest.approx(0.5 + 2e-8 * (1500 * MILLION + 500_000) + 0.002 * MILLION)


def test_the_busiest_server_and_the_message_rounds_are_the_prediction() -> None:
    rows = [made_up_row(owners, link=Link(20)) for owners in (10, 100, 300)] + [made_up_row(dimension=30_000)]
    many = predict(rows, owners=MILLION, simulation=made_up_simulation)
    assert many.busiest == "last party"
    last = many.servers["last party"]
    assert many.predicted_seconds == pytest.approx(last.predicted_seconds + 60 * 0.02)
    # 2.5 ms an owner for its connection, and 100 s for what else the party does.
    assert last.simulated_seconds == pytest.approx(2600)
    assert last.ratio == pytest.approx(last.predicted_seconds / 2600)
    assert many.servers["coordinator"].simulated_seconds == pytest.approx(2000)
    assert many.servers["first party"].ratio is None
    busy = [replace(row, processor_seconds={**row.processor_seconds, "coordinator": 0.01 * row.owners}) for row in rows]
    assert predict(busy, owners=MILLION, simulation=made_up_simulation).busiest == "coordinator"


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        pytest.param([ROWS[0], *ROWS[3:]], "repeat --owners", id="one number of owners"),
        pytest.param(ROWS[:2], "at least 3 sessions", id="too few"),
        pytest.param([ROWS[0], replace(ROWS[0]), replace(ROWS[1])], "differ in their bytes", id="owners alone"),
    ],
)
def test_rows_that_do_not_tell_are_refused_before_anything_is_simulated(rows: list[Any], problem: str) -> None:
    def never(**_: int) -> Simulation:
        raise AssertionError("simulated in vain")

    with pytest.raises(ValueError, match=problem):
        predict(rows, owners=MILLION, simulation=never)


# -- the last party's own work -----------------------------------------------------------------------------------------


def test_the_party_enrols_and_adds_every_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    enrol = PartyJournal.enrol
    monkeypatch.setattr(party_simulation, "_BATCH", 30)

    def note(self: PartyJournal, position: int, enrolment: Enrolment) -> None:
        written.append(position)
        enrol(self, position, enrolment)

    monkeypatch.setattr(PartyJournal, "enrol", note)
    found = simulate_party(owners=100, dimension=7)
    assert written == list(range(100))
    assert (found.owners, found.dimension, found.enrolments_written) == (100, 7, 100)
    assert min(found.enrolment_seconds, found.upload_seconds, found.sum_seconds) > 0
    assert found.seconds == found.enrolment_seconds + found.upload_seconds + found.sum_seconds < 30


def test_enrolments_beyond_the_most_that_are_written_are_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(time, "process_time", lambda: float(next(clock)))
    monkeypatch.setattr(party_simulation, "_MOST_WRITTEN", 20)
    monkeypatch.setattr(party_simulation, "_BATCH", 10)
    found = simulate_party(owners=50, dimension=3)
    # A second for each batch of ten: two were enrolled, five were uploaded.
    assert found.enrolments_written == 20
    assert (found.enrolment_seconds, found.upload_seconds, found.sum_seconds) == (5.0, 5.0, 1.0)


def test_a_party_that_loses_an_upload_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    add_up = party_simulation._Party.add_up

    def forgetful(self: Any, request: Any) -> Any:
        self._uploads[3].values[:] = np.int64(0)
        return add_up(self, request)

    monkeypatch.setattr(party_simulation._Party, "add_up", forgetful)
    with pytest.raises(ValueError, match="do not add up"):
        simulate_party(owners=10, dimension=3)


def test_the_log_is_as_before_and_nothing_of_it_was_shown(capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    before = structlog.get_config()
    simulate_party(owners=3, dimension=2)
    assert structlog.get_config() == before
    assert capsys.readouterr() == ("", "")


# -- servers -----------------------------------------------------------------------------------------------------------


def test_a_simulation_is_put_together_from_both_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_owners, "measure_server", lambda probe: {COORDINATOR: 0.003, PARTY: 0.004}[probe.server])
    party = PartySimulation(500, 7, 500, 1.0, 2.0, 3.0, 100.0)
    monkeypatch.setattr(many_owners, "simulate_party", lambda *, owners, dimension: replace(party, owners=owners))
    found = simulate(owners=1000, dimension=7)
    assert found.seconds == pytest.approx({"coordinator": 3.0, "last party": 4.0 + 6.0})


@pytest.mark.slow
@pytest.mark.parametrize("server", [PARTY, COORDINATOR])
def test_an_owner_costs_a_real_server_milliseconds(server: str) -> None:
    few, many = (measure_server(ServerProbe(server, owners, 100)) for owners in (10, 60))
    # A TLS handshake alone takes some tenths of a millisecond.
    for seconds in (few, many):
        assert 2e-4 < seconds < 0.1
    # More owners cost more, and not more than in proportion by far.
    assert 60 * many > 2 * 10 * few
    assert many < 3 * few


@pytest.mark.slow
def test_a_large_vector_costs_the_transport_more() -> None:
    small, large = (measure_server(ServerProbe(PARTY, 10, dimension)) for dimension in (10, 1_000_000))
    assert large > small + 0.002
