"""Real processes that are killed at named points of the protocol and started again with the same config."""

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from crash_points import point
from farmed_network import Farm, FarmedNetwork
from hostile_network import SECONDS, check_ends, check_result, make, note, succeeded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as farm:
        yield farm


@dataclass(frozen=True)
class Crash:
    """A row of the matrix.

    Args:
        setting: the task, see `hostile_network.make`.
        victim: who dies.
        text: where, see `crash_points.point`.
    """

    setting: str
    victim: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting.replace(' ', '-')}:{self.victim}:{point(self.text)}"


_MATRIX = """
output joint 3      | party-1 | after transport.mesh:LinkMesh.exchange [plan]
output joint 2      | party-2 | before mpc.noise_bank.pool:NoisePool.agree
output joint 3      | party-2 | after mpc.noise_bank.pool:NoisePool.agree
gradient joint 2    | party-1 | before mpc.noise_bank.pool:NoisePool.store
output joint 2      | party-2 | after mpc.noise_bank.pool:NoisePool.store
gradient joint 3    | party-3 | before mpc.noise_bank.pool:NoisePool.commit
output joint 3      | party-1 | after mpc.noise_bank.pool:NoisePool.commit
output joint 2      | party-1 | before mpc.noise_bank.pool:NoisePool.reserve
gradient joint 2    | party-2 | after mpc.noise_bank.pool:NoisePool.reserve
output joint 3      | party-2 | before roles.compute_party:ComputeParty.enrol
gradient joint 3    | party-1 | after roles.compute_party:ComputeParty.enrol
output per-party 2  | party-2 | after roles.compute_party:ComputeParty.enrol #2
output per-party 3  | party-3 | before roles.compute_party:ComputeParty.upload
gradient joint 2    | party-2 | after roles.compute_party:ComputeParty.upload
gradient joint 3    | party-3 | after roles.compute_party:ComputeParty.upload #4
output joint 3      | party-1 | before transport.mesh:LinkMesh.exchange [agree]
gradient joint 3    | party-2 | after transport.mesh:LinkMesh.exchange #2 [agree]
output joint 2      | party-1 | before roles.journal:PartyJournal.bind_round
gradient joint 3    | party-2 | before roles.journal:PartyJournal.bind_round #2
output joint 3      | party-3 | after roles.journal:PartyJournal.bind_round
gradient joint 2    | party-1 | after roles.journal:PartyJournal.bind_round #3
gradient per-party 3 | party-2 | after roles.journal:PartyJournal.bind_round #2
output joint 2      | party-2 | before transport.mesh:LinkMesh.exchange [commit]
gradient joint 3    | party-1 | after transport.mesh:LinkMesh.exchange [commit]
gradient per-party 2 | party-2 | after transport.mesh:LinkMesh.exchange #3 [commit]
output joint 3      | party-2 | before mpc.crypten_backend:CryptenBackend.reveal
gradient joint 2    | party-1 | after mpc.crypten_backend:CryptenBackend.reveal
gradient joint 3    | party-3 | after mpc.crypten_backend:CryptenBackend.reveal #3
output per-party 3  | party-1 | after roles.compute_party:ComputeParty.aggregate
output joint 2      | party-1 | before roles.compute_party:ComputeParty.close_session
output joint 2      | owner-1 | before roles.owner_secret:write_private_file
output per-party 2  | owner-2 | after roles.owner_secret:write_private_file
output joint 3      | owner-1 | before privacy.ledger:Ledger.charge
output joint 2      | owner-2 | after privacy.ledger:Ledger.charge
output joint 3      | owner-1 | after transport.clients:ComputePartyClient.enrol
output joint 2      | owner-2 | before privacy.ledger:Ledger.record_noise
gradient joint 2    | owner-1 | after privacy.ledger:Ledger.record_noise
gradient joint 3    | owner-2 | before transport.clients:ComputePartyClient.upload #2
gradient per-party 2 | owner-1 | after transport.clients:ComputePartyClient.upload #2
gradient joint 2    | owner-2 | after roles.training:Training.follow #2
output joint 2      | owner-1 | before transport.clients:ComputePartyClient.outcome
output joint 3      | owner-2 | before privacy.ledger:Ledger.record_releases
output joint 2      | owner-1 | after privacy.ledger:Ledger.record_releases
gradient joint 2    | owner-2 | after learning.model:TrainedModel.save
output joint 2      | dealer | after roles.dealer:Dealer.open_session
output joint 3      | dealer | before roles.dealer:Dealer.deal
gradient joint 2    | dealer | after roles.dealing_desk:DealingDesk.deal #2
output joint 2      | dealer | item transport.codec:write_deal #1
output joint 3      | dealer | item transport.codec:write_deal #2
output joint 2      | coordinator | after roles.coordinator:Coordinator.attend
gradient joint 2    | coordinator | before transport.clients:ComputePartyClient.open_session
output joint 3      | coordinator | after transport.clients:ComputePartyClient.open_session
output joint 2      | coordinator | before roles.coordinator:Coordinator._run_round
gradient joint 3    | coordinator | before transport.clients:ComputePartyClient.aggregate #4
gradient joint 2    | coordinator | after transport.clients:ComputePartyClient.aggregate #3
gradient per-party 2 | coordinator | after roles.training:Training.follow #2
output joint 2      | coordinator | before roles.coordinator:Coordinator._tell_owners
gradient joint 2    | coordinator | before roles.coordinator:Coordinator._close_session
output per-party 2  | coordinator | before learning.model:TrainedModel.save
"""
MATRIX = [Crash(*(part.strip() for part in line.split("|"))) for line in _MATRIX.strip().splitlines()]


@pytest.mark.parametrize("crash", MATRIX, ids=str)
def test_a_process_that_is_killed_and_started_again(tmp_path: Path, farm: Farm, crash: Crash) -> None:
    made = make(tmp_path, crash.setting)
    start = time.monotonic()
    with FarmedNetwork(made.folder, farm) as network:
        network.arm(crash.victim, crash.text)
        network.start()
        assert network.wait_for_death(crash.victim, SECONDS), f"{crash.victim} never came to that point"
        network.start(crash.victim)
        results = {result.name: result for result in network.wait(SECONDS)}
    note(crash, start, results)
    check_ends(network, results)
    check_result(made, results)
    assert succeeded(results)


@pytest.mark.parametrize(
    ("victim", "text"),
    [
        ("owner-1", "after privacy.ledger:Ledger.charge"),
        ("party-1", "after transport.mesh:LinkMesh.exchange [agree]"),
        ("dealer", "after roles.dealer:Dealer.open_session"),
        ("coordinator", "before transport.clients:ComputePartyClient.aggregate"),
    ],
)
def test_a_process_that_freezes_and_goes_on(tmp_path: Path, farm: Farm, victim: str, text: str) -> None:
    """Longer than it takes the others to notice: the rest of its life begins with broken connections."""
    made = make(tmp_path, "gradient joint 2")
    start = time.monotonic()
    with FarmedNetwork(made.folder, farm) as network:
        network.arm(victim, f"stop {text}")
        network.start()
        network.wait_for_stop(victim, SECONDS)
        time.sleep(12.0)
        network.signal(victim, signal.SIGCONT)
        results = {result.name: result for result in network.wait(SECONDS)}
    note(f"{victim} frozen", start, results)
    check_ends(network, results)
    check_result(made, results)
