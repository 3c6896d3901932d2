"""Made-up figures of whole sessions and of other libraries."""

from mpcdp.bench.many_owners import Simulation
from mpcdp.bench.party_simulation import PartySimulation
from mpcdp.bench.peers import PEERS, PeerResult, failed_peer
from mpcdp.bench.protocol import ProtocolRow, ProtocolSetting
from mpcdp.bench.rounds_report import OWNERS
from mpcdp.bench.slow_network import FAST, Link

__all__ = ["ROWS", "made_up_peer", "made_up_row", "made_up_simulation"]


def made_up_row(owners: int = 10, dimension: int = 100, parties: int = 3, link: Link = FAST) -> ProtocolRow:
    """Return a row whose times follow a cost model without a remainder.

    Offline 1 s + 0.5 * 60 rounds * round trip + 10 ns a byte; then 5 ms an owner. Processor seconds: coordinator 0.1 s
    + 1 ms an owner, every party 0.5 s + 20 ns a byte received + 2 ms an owner.
    """
    setting = ProtocolSetting(owners, dimension, parties, link)
    sent = {"owner->party": 700 * owners, "party->party": 6 * dimension * 1000, "dealer->party": 0}
    received = {"coordinator": 50 * owners + 8 * dimension, "dealer": 10}
    received |= {f"party-{number}": 300 * owners + 5000 * dimension for number in range(1, parties)}
    received[f"party-{parties}"] = 700 * owners + 8 * dimension * owners + 5000 * dimension
    used = {OWNERS: 0.04 * owners, "dealer": 0.3, "coordinator": 0.1 + 0.001 * owners}
    used |= {name: 0.5 + 2e-8 * count + 0.002 * owners for name, count in received.items() if name.startswith("party")}
    phases = {
        "offline": 1 + 30 * setting.link.round_trip_ms / 1000 + 1e-8 * sum(sent.values()),
        "enrolment": 0.003 * owners,
        "upload": 0.001 * owners,
        "agreement": 0.001 * owners,
        "reveal": 0.0,
    }
    return ProtocolRow(
        owners=owners,
        dimension=dimension,
        parties=parties,
        round_trip_ms=setting.link.round_trip_ms,
        bandwidth_mbit=setting.link.bandwidth_mbit,
        sessions=1,
        seconds=sum(phases.values()),
        seconds_by_phase=phases,
        joining_seconds=0.5,
        closing_seconds=0.2,
        message_rounds=60,
        message_rounds_by_phase={"offline": 50, "upload": 7, "agreement": 2, "reveal": 1},
        processor_seconds=used,
        startup_processor_seconds=dict.fromkeys(used, 1.5),
        bytes_received=received,
        bytes=sent,
        party_peak_memory_mib={f"party-{number}": 300.0 + number for number in range(parties)},
        noise_ratio=1.01,
        seconds_by_session=(sum(phases.values()),),
    )


ROWS = [
    made_up_row(),
    made_up_row(owners=100),
    made_up_row(owners=300),
    made_up_row(dimension=30_000),
    made_up_row(parties=2),
    made_up_row(link=Link(20)),
    made_up_row(link=Link(0, 100)),
]
"""What differs from the first one differs in one thing alone."""


def made_up_simulation(*, owners: int, dimension: int) -> Simulation:
    """Return one in which the coordinator takes 2 ms an owner, and the last party 2.5 ms and 100 s."""
    return Simulation(200, 0.002, 0.0025, PartySimulation(owners, dimension, owners, 60.0, 30.0, 10.0, 2000.0))


def made_up_peer(name: str, problem: str | None = None) -> PeerResult:
    """Return the figures of a library, or why it has none."""
    (peer,) = (peer for peer in PEERS if peer.name == name)
    if problem is not None:
        return failed_peer(peer, problem)
    return PeerResult(name, "9.9", peer.setting, 0.25, (0.25,), 12345, 1e-7, 0.99, peer.noise, peer.seen_by)
