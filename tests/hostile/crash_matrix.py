"""Where processes die in the tests of crashes: the table, one row for a task, a victim and a point."""

from dataclasses import dataclass

from crash_points import Point, point

__all__ = ["MATRIX", "Crash"]


@dataclass(frozen=True)
class Crash:
    """A row of the table.

    Args:
        setting: the task: method, noise, number of compute parties.
        victim: who dies.
        text: where, see `crash_points.point`.
        real: whether it is tried with real processes too.
        missed: whether the victim comes back when nobody needs it any more, and ends with an error that says so.
    """

    setting: str
    victim: str
    text: str
    real: bool
    missed: bool = False

    def __str__(self) -> str:
        return f"{self.setting.replace(' ', '-')}:{self.victim}:{self.point}"

    @property
    def point(self) -> Point:
        """Where the victim dies, if the computation is one in the clear."""
        return point(self.text.replace("BACKEND", "mpc.plaintext_backend:PlaintextBackend"))

    @property
    def real_text(self) -> str:
        """Where a real process dies."""
        return self.text.replace("BACKEND", "mpc.crypten_backend:CryptenBackend")


# A star: with real processes too. An exclamation mark: the victim is not needed any more when it comes back.
_ROWS = """
output joint 3       | party-1     | after transport.mesh:LinkMesh.exchange [plan]     *
output joint 2       | party-2     | before mpc.noise_bank.pool:NoisePool.agree        *
output joint 3       | party-2     | after mpc.noise_bank.pool:NoisePool.agree
gradient joint 2     | party-1     | before mpc.noise_bank.pool:NoisePool.store
output joint 2       | party-2     | after mpc.noise_bank.pool:NoisePool.store         *
gradient joint 3     | party-3     | before mpc.noise_bank.pool:NoisePool.commit
output joint 3       | party-1     | after mpc.noise_bank.pool:NoisePool.commit        *
output joint 2       | party-1     | before mpc.noise_bank.pool:NoisePool.reserve      *
gradient joint 2     | party-2     | after mpc.noise_bank.pool:NoisePool.reserve       *
output joint 2       | party-1     | after roles.journal:PartyJournal.note_noise
output joint 3       | party-2     | before roles.journal:PartyJournal.enrol           *
gradient joint 3     | party-1     | after roles.journal:PartyJournal.enrol            *
output per-party 2   | party-2     | after roles.compute_party:ComputeParty.enrol #2   *
output per-party 3   | party-3     | before roles.compute_party:ComputeParty.upload    *
gradient joint 2     | party-2     | after roles.compute_party:ComputeParty.upload
gradient joint 3     | party-3     | after roles.compute_party:ComputeParty.upload #4  *
output joint 3       | party-1     | before transport.mesh:LinkMesh.exchange [agree]   *
gradient joint 3     | party-2     | after transport.mesh:LinkMesh.exchange #2 [agree] *
output joint 2       | party-1     | before roles.journal:PartyJournal.bind_round
gradient joint 3     | party-2     | before roles.journal:PartyJournal.bind_round #2   *
output joint 3       | party-3     | after roles.journal:PartyJournal.bind_round       *
gradient joint 2     | party-1     | after roles.journal:PartyJournal.bind_round #3    *
gradient per-party 3 | party-2     | after roles.journal:PartyJournal.bind_round #2    *
output joint 2       | party-2     | before transport.mesh:LinkMesh.exchange [commit]
gradient joint 3     | party-1     | after transport.mesh:LinkMesh.exchange [commit]   *
gradient per-party 2 | party-2     | after transport.mesh:LinkMesh.exchange #3 [commit] *
output joint 3       | party-2     | before BACKEND.reveal                             *
gradient joint 2     | party-1     | after BACKEND.reveal                              *
gradient joint 3     | party-3     | after BACKEND.reveal #3
output joint 3       | party-2     | before roles.journal:PartyJournal.record_release  *
gradient joint 2     | party-2     | after roles.journal:PartyJournal.record_release #2
output per-party 3   | party-1     | after roles.compute_party:ComputeParty.aggregate  *
output joint 2       | party-1     | before roles.compute_party:ComputeParty.close_session
output joint 3       | party-3     | before roles.journal:PartyJournal.end             *
gradient joint 2     | party-2     | after roles.journal:PartyJournal.end
output joint 2       | owner-1     | before roles.owner_secret:write_private_file      *
output per-party 2   | owner-2     | after roles.owner_secret:write_private_file       *
output joint 3       | owner-1     | before privacy.ledger:Ledger.charge
output joint 2       | owner-2     | after privacy.ledger:Ledger.charge                *
output joint 3       | owner-1     | after transport.clients:ComputePartyClient.enrol  *
output joint 2       | owner-2     | before privacy.ledger:Ledger.record_noise         *
gradient joint 2     | owner-1     | after privacy.ledger:Ledger.record_noise
gradient joint 3     | owner-2     | before transport.clients:ComputePartyClient.upload #2 *
gradient per-party 2 | owner-1     | after transport.clients:ComputePartyClient.upload #2 *
gradient joint 2     | owner-2     | after roles.training:Training.follow #2           *
output joint 2       | owner-1     | before transport.clients:ComputePartyClient.outcome *
output joint 3       | owner-2     | before privacy.ledger:Ledger.record_releases      *
output joint 2       | owner-1     | after privacy.ledger:Ledger.record_releases
gradient joint 2     | owner-2     | after learning.model:TrainedModel.save            *
output joint 2       | dealer      | after roles.dealer:Dealer.open_session            *
output joint 3       | dealer      | before roles.dealer:Dealer.deal                   *
gradient joint 2     | dealer      | after roles.dealing_desk:DealingDesk.deal #2      *
output joint 2       | dealer      | item transport.codec:write_deal #1                *
output joint 3       | dealer      | item transport.codec:write_deal #2                *
output joint 2       | dealer      | before roles.dealer:Dealer.close_session          !
output joint 2       | coordinator | after roles.coordinator_journal:CoordinatorJournal.open_session *
output joint 2       | coordinator | after roles.coordinator:Coordinator.attend        *
gradient joint 2     | coordinator | before transport.clients:ComputePartyClient.open_session
output joint 3       | coordinator | after transport.clients:ComputePartyClient.open_session *
gradient joint 2     | coordinator | before roles.coordinator_journal:CoordinatorJournal.start *
output per-party 2   | coordinator | after roles.coordinator_journal:CoordinatorJournal.start
output joint 2       | coordinator | before roles.coordinator_journal:CoordinatorJournal.ask *
gradient joint 3     | coordinator | after roles.coordinator_journal:CoordinatorJournal.ask #2
gradient joint 3     | coordinator | before transport.clients:ComputePartyClient.aggregate #4 *
gradient joint 2     | coordinator | after transport.clients:ComputePartyClient.aggregate #3 *
output joint 2       | coordinator | before roles.coordinator_journal:CoordinatorJournal.record_release
gradient per-party 2 | coordinator | after roles.coordinator_journal:CoordinatorJournal.record_release #2 *
output per-party 2   | coordinator | before learning.model:TrainedModel.save           *
output joint 2       | coordinator | after learning.model:TrainedModel.save
gradient joint 2     | coordinator | after roles.coordinator_journal:CoordinatorJournal.serve
output joint 2       | coordinator | before transport.clients:ComputePartyClient.close_session *
gradient joint 2     | coordinator | before roles.coordinator_journal:CoordinatorJournal.end *
"""


def _crash(row: str) -> Crash:
    setting, victim, text = (part.strip() for part in row.split("|"))
    return Crash(setting, victim, text.rstrip("*! "), text.endswith("*"), text.endswith("!"))


MATRIX = [_crash(row) for row in _ROWS.strip().splitlines()]
