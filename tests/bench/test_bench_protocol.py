"""A whole session as real processes: what its phases take, and what a slow network adds to them."""

from dataclasses import replace

import pytest
from burning_worker import BURNT_SECONDS, burning_command

from mpcdp.bench.metered_network import Meter
from mpcdp.bench.protocol import PHASES, ProtocolRow, ProtocolSetting, measure_plain, measure_protocol
from mpcdp.bench.slow_network import Link
from mpcdp.transport.access import REACH

ROUND_TRIP_MS = 100
"""Long enough for what it adds to stand out from what else a busy machine does."""
SETTING = ProtocolSetting(owners=3, dimension=16, parties=2)
SLOW = ProtocolSetting(owners=3, dimension=16, parties=2, link=Link(ROUND_TRIP_MS))


def test_a_first_call_takes_handshakes_and_a_repeated_greeting_counts_once() -> None:
    meter = Meter()
    meter.calls += [("coordinator", REACH), ("coordinator", "Coordinator/Attend")]
    meter.calls += [("party-1", REACH), ("party-2", REACH), ("party-1", REACH), ("party-1", "ComputeParty/Enrol")]
    meter.calls += [("party-2", "ComputeParty/Enrol"), ("party-2", "ComputeParty/Upload")]
    # TCP, TLS and a greeting at each of both, then three calls.
    assert meter.message_rounds(["party-1", "party-2"]) == 2 * 3 + 3
    # A connection that broke is made again.
    meter.calls += [("party-2", REACH), ("party-2", "ComputeParty/Upload")]
    assert meter.message_rounds(["party-1", "party-2"]) == 2 * 3 + 3 + 4
    assert meter.message_rounds([]) == 0


@pytest.mark.slow
def test_time_grows_by_a_round_trip_for_a_message_round() -> None:
    """The network is all that differs: the same bytes and the same message rounds, each of which waits for it."""
    fast, slow = (measure_protocol(setting, sessions=2) for setting in (SETTING, SLOW))
    assert fast.message_rounds_by_phase == slow.message_rounds_by_phase
    assert set(fast.message_rounds_by_phase) == {"offline", "upload", "agreement", "reveal"}
    for row in (fast, slow):
        assert row.seconds == pytest.approx(sum(row.seconds_by_phase[phase] for phase in PHASES))
        assert min(row.seconds_by_phase.values()) >= 0
        assert 0.3 < row.noise_ratio < 2
        assert set(row.party_peak_memory_mib) == {"party-1", "party-2"}
        vectors = 3 * 8 * 16
        assert vectors < row.bytes["owner->party"] < vectors + 3 * 2 * 1000
        assert row.bytes["party->coordinator"] > 2 * 8 * 16
        assert row.bytes["dealer->party"] > 0
        assert row.bytes["party->party"] > 2 * 8 * 16
        check_servers(row)
    # Some message rounds go both ways at once, and take half a round trip.
    added = slow.message_rounds * ROUND_TRIP_MS / 1000
    assert 0.4 * added < min(slow.seconds_by_session) - min(fast.seconds_by_session) < 1.3 * added
    for phase in ("agreement", "reveal"):
        assert slow.seconds_by_phase[phase] > 0.5 * ROUND_TRIP_MS / 1000


def check_servers(row: ProtocolRow) -> None:
    servers = {"coordinator", "dealer", "party-1", "party-2"}
    assert set(row.bytes_received) == servers
    assert sum(row.bytes_received.values()) == sum(
        count for link, count in row.bytes.items() if not link.endswith("->owner")
    )
    assert row.bytes_received["party-2"] > row.bytes["owner->party"] / 2
    assert set(row.processor_seconds) == set(row.startup_processor_seconds) == servers | {"owners"}
    assert min(row.processor_seconds.values()) > 0
    # Compute parties import CrypTen, the others do not.
    startup = row.startup_processor_seconds
    assert min(startup["party-1"], startup["party-2"]) > startup["dealer"] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "role"), [("party-1", "party-1"), ("coordinator", "coordinator"), ("owners-1", "owners")]
)
def test_processor_seconds_are_those_of_the_process_that_worked(process: str, role: str) -> None:
    row = measure_protocol(replace(SETTING, owners=1), command=burning_command(process))
    assert row.processor_seconds[role] > BURNT_SECONDS
    assert max(seconds for name, seconds in row.processor_seconds.items() if name != role) < BURNT_SECONDS


@pytest.mark.slow
def test_a_narrow_line_adds_the_time_of_the_bytes() -> None:
    """The dealer's line carries all corrections: at 4 Mbit/s, its bytes alone take most of a second."""
    row = measure_protocol(ProtocolSetting(owners=3, dimension=16, parties=2, link=Link(0, bandwidth_mbit=4)))
    assert row.seconds_by_phase["offline"] > 8 * row.bytes["dealer->party"] / 4e6
    assert row.bandwidth_mbit == 4


@pytest.mark.slow
def test_plain_sums_are_measured_on_the_same_processes() -> None:
    seconds, sent = measure_plain(SETTING, runs=2)
    assert len(seconds) == 2
    assert 0 < min(seconds) <= max(seconds) < 30
    assert sent > 3 * 8 * 16
