"""What ``mpcdp bench protocol`` has found out: sessions, other libraries, the cost model, and very many owners."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mpcdp import __version__
from mpcdp.bench.cost_model import CostModel, fit_costs
from mpcdp.bench.machine import where_measured
from mpcdp.bench.peers import PeerResult
from mpcdp.bench.protocol import PHASES, ProtocolRow, observation
from mpcdp.bench.report import time_text
from mpcdp.bench.upload_simulation import LEFT_OUT, Simulation

__all__ = ["PEER_HEADER", "ROW_HEADER", "ManyOwners", "ProtocolResults", "fitted", "many_owners", "our_result"]

ROW_HEADER = (
    *("owners", "dimension", "parties", "round trip", "Mbit/s", "time", *PHASES),
    *(
        "message rounds",
        "owner to party, B",
        "party to party, B",
        "dealer to party, B",
        "party to coord., B",
        "MiB",
        "fit",
    ),
)
PEER_HEADER = ("library", "version", "time", "bytes", "noise ratio", "setting", "noise", "who could see what")
_ONLINE_BY_OWNER = ("enrolment", "upload", "agreement")


@dataclass(frozen=True)
class ManyOwners:
    """Very many owners: what the cost model says, and what a simulation in one process says.

    Args:
        owners: how many.
        dimension: number of coordinates d.
        predicted_seconds: by the cost model, on loopback, with the bytes that an owner was measured to cost.
        seconds_per_owner: by number of owners that were measured: enrolment, upload and agreement, each divided by it.
        growth_seconds_per_owner: slope of a line through these times.
        simulation: a party's work for the uploads.
        ratio: predicted_seconds / the simulation's.
        left_out: what the simulation leaves out, and the prediction has in it.
    """

    owners: int
    dimension: int
    predicted_seconds: float
    seconds_per_owner: Mapping[int, float]
    growth_seconds_per_owner: float
    simulation: Simulation
    ratio: float
    left_out: str = LEFT_OUT

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return asdict(self) | {"simulation": self.simulation.as_dict()}


@dataclass(frozen=True)
class ProtocolResults:
    """Everything of one run of the command.

    Args:
        rows: sessions; the first one is what the others vary.
        peers: ours first.
        model: fitted to the rows without a limit on bandwidth, None if it could not be.
        many: very many owners, None if that was not asked for, or there is no model.
        notes: what to know.
    """

    rows: Sequence[ProtocolRow]
    peers: Sequence[PeerResult]
    model: CostModel | None
    many: ManyOwners | None
    notes: Sequence[str]

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "rows": [asdict(row) for row in self.rows],
            "peers": [asdict(peer) for peer in self.peers],
            "model": None if self.model is None else asdict(self.model),
            "many_owners": None if self.many is None else self.many.as_dict(),
            "notes": list(self.notes),
            **where_measured(),
        }

    def row_cells(self) -> list[list[str]]:
        """Return the table of the sessions under `ROW_HEADER`."""
        return [[*_row_cells(row), self._fit_text(row)] for row in self.rows]

    def peer_cells(self) -> list[list[str]]:
        """Return the table of the libraries under `PEER_HEADER`."""
        return [_peer_cells(peer) for peer in self.peers]

    def model_text(self) -> str:
        """Write the cost model as a formula."""
        if self.model is None:
            return "There is no cost model: see the notes."
        model = self.model
        return (
            f"time = {time_text(model.start_seconds)} + {model.rounds_factor:.2f} x message rounds x round trip "
            f"+ {1e9 * model.seconds_per_byte:,.1f} ns x bytes + {time_text(model.seconds_per_owner)} x owners, "
            "least squares of relative errors, no coefficient below 0, rows without a limit on bandwidth"
        )

    def many_text(self) -> str:
        """Write what very many owners would take."""
        if self.many is None:
            return ""
        many = self.many
        growth = ", ".join(f"{time_text(each)} with {owners:,}" for owners, each in many.seconds_per_owner.items())
        return (
            f"{many.owners:,} owners of {many.dimension:,} coordinates: {many.predicted_seconds:,.0f} s by the model, "
            f"all owners on this machine; {many.simulation.seconds:,.1f} s by a simulation of one party's work in one "
            f"process ({many.simulation.peak_memory_mib:,.0f} MiB): {many.ratio:,.0f} times. The simulation leaves out "
            f"{many.left_out}. Measured per owner: {growth}; each further owner "
            f"{time_text(many.growth_seconds_per_owner)}."
        )

    def _fit_text(self, row: ProtocolRow) -> str:
        if self.model is None or row.bandwidth_mbit is not None:
            return "-"
        seen = observation(row)
        return time_text(
            self.model.predict(
                message_rounds=seen.message_rounds,
                round_trip_seconds=seen.round_trip_seconds,
                bytes_sent=seen.bytes_sent,
                owners=seen.owners,
            )
        )


def fitted(rows: Sequence[ProtocolRow]) -> CostModel:
    """Fit the cost model to the rows without a limit on bandwidth.

    Raises:
        ValueError: they do not determine it.
    """
    return fit_costs([observation(row) for row in rows if row.bandwidth_mbit is None])


def many_owners(rows: Sequence[ProtocolRow], model: CostModel, simulation: Simulation) -> ManyOwners:
    """Predict very many owners from sessions that differ from the first one in their owners only.

    Args:
        rows: all rows.
        model: fitted to them.
        simulation: of as many owners as are to be predicted.

    Raises:
        ValueError: fewer than two numbers of owners were measured.
    """
    first = rows[0]
    alike = [row for row in rows if _without_owners(row) == _without_owners(first)]
    owners = np.array([row.owners for row in alike], dtype=float)
    if len(set(owners)) < 2:
        raise ValueError("very many owners are predicted from two or more numbers of owners: repeat --owners")
    online = np.array([sum(row.seconds_by_phase[phase] for phase in _ONLINE_BY_OWNER) for row in alike])
    byte_slope, byte_start = np.polyfit(owners, [sum(row.bytes.values()) for row in alike], 1)
    predicted = model.predict(
        message_rounds=first.message_rounds,
        round_trip_seconds=first.round_trip_ms / 1000,
        bytes_sent=byte_start + byte_slope * simulation.owners,
        owners=simulation.owners,
    )
    return ManyOwners(
        owners=simulation.owners,
        dimension=simulation.dimension,
        predicted_seconds=predicted,
        seconds_per_owner={row.owners: float(each) for row, each in zip(alike, online / owners, strict=True)},
        growth_seconds_per_owner=float(np.polyfit(owners, online, 1)[0]),
        simulation=simulation,
        ratio=predicted / simulation.seconds,
    )


def our_result(row: ProtocolRow) -> PeerResult:
    """Return ours beside the others: the whole session of a row, its noise included."""
    return PeerResult(
        peer="mpcdp",
        version=__version__,
        setting=f"{row.parties} parties, a dealer, a coordinator: processes, mutual TLS; noise and enrolment included",
        seconds=row.seconds,
        seconds_by_run=row.seconds_by_session,
        bytes_sent=sum(row.bytes.values()),
        largest_error=None,
        noise_ratio=row.noise_ratio,
        noise="inside, exact discrete Gaussian that nobody knows",
        seen_by="only the noised sum; all parties together, or one and the dealer, could see more",
    )


def _without_owners(row: ProtocolRow) -> tuple[object, ...]:
    return row.dimension, row.parties, row.round_trip_ms, row.bandwidth_mbit


def _row_cells(row: ProtocolRow) -> list[str]:
    links = ("owner->party", "party->party", "dealer->party", "party->coordinator")
    return [
        f"{row.owners:,}",
        f"{row.dimension:,}",
        str(row.parties),
        f"{row.round_trip_ms:g} ms",
        "-" if row.bandwidth_mbit is None else f"{row.bandwidth_mbit:g}",
        time_text(row.seconds),
        *(time_text(row.seconds_by_phase[phase]) for phase in PHASES),
        str(row.message_rounds),
        *(f"{row.bytes.get(link, 0):,}" for link in links),
        f"{max(row.party_peak_memory_mib.values()):,.0f}",
    ]


def _peer_cells(peer: PeerResult) -> list[str]:
    seconds = "failed" if peer.seconds is None else time_text(peer.seconds)
    return [
        peer.peer,
        peer.version or "-",
        seconds,
        "-" if peer.bytes_sent is None else f"{peer.bytes_sent:,}",
        "-" if peer.noise_ratio is None else f"{peer.noise_ratio:.2f}",
        peer.setting if peer.problem is None else f"failed: {peer.problem}",
        peer.noise,
        peer.seen_by,
    ]
