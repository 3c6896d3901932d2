"""What ``mpcdp bench protocol`` has found out: sessions, other libraries, the cost model, and very many owners."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from mpcdp import __version__
from mpcdp.bench.cost_model import CostModel, fit_costs
from mpcdp.bench.machine import where_measured
from mpcdp.bench.many_owners import ManyOwners, ServerCost
from mpcdp.bench.peers import PeerResult
from mpcdp.bench.protocol import PHASES, ProtocolRow, observation
from mpcdp.bench.report import time_text
from mpcdp.bench.rounds_report import OWNERS
from mpcdp.bench.server_probe import COORDINATOR
from mpcdp.errors import InputError

__all__ = [
    "PEER_HEADER",
    "PROCESSOR_HEADER",
    "ROW_HEADER",
    "SERVER_HEADER",
    "ProtocolResults",
    "fitted",
    "our_result",
]

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
PROCESSOR_HEADER = (
    *("owners", "dimension", "parties", "round trip"),
    *("an owner", "coordinator", "first party", "last party", "dealer", "start-up of all"),
)
SERVER_HEADER = (
    *("server", "start", "a byte received", "an owner", "farthest off", "predicted"),
    *("simulated", "predicted / simulated"),
)
LEFT_OUT = (
    "In neither: waiting for a disk, a network's other limits, and that a server of one process has a thread for each "
    "owner that waits and a file for each connection"
)


@dataclass(frozen=True)
class ProtocolResults:
    """Everything of one run of the command.

    Args:
        rows: sessions; the first one is what the others vary.
        peers: ours first.
        model: fitted to the rows without a limit on bandwidth, None if it could not be.
        many: very many owners, None if that was not asked for or the rows do not tell.
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
            "kind": "protocol",
            "rows": [asdict(row) for row in self.rows],
            "peers": [asdict(peer) for peer in self.peers],
            "model": None if self.model is None else asdict(self.model),
            "many_owners": None if self.many is None else self.many.as_dict(),
            "notes": list(self.notes),
            **where_measured(),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Read what `document` wrote.

        Raises:
            InputError: it is something else.
        """
        try:
            return TypeAdapter(cls).validate_python({**document, "many": document.get("many_owners")})
        except ValidationError as error:
            raise InputError(f"these are no results of `mpcdp bench protocol --json`: {error.errors()[0]}") from error

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
            "least squares of relative errors, no coefficient below 0, rows without a limit on bandwidth. For this "
            f"machine, which all processes share, owners too, and for {self._range_text()}: there the farthest off is "
            f"{100 * self._largest_error():.0f} % of a measured time"
        )

    def processor_cells(self) -> list[list[str]]:
        """Return the table of processor seconds under `PROCESSOR_HEADER`."""
        return [_processor_cells(row) for row in self.rows]

    def server_cells(self) -> list[list[str]]:
        """Return the table of servers with very many owners under `SERVER_HEADER`; empty if there is none."""
        return [] if self.many is None else [_server_cells(*server) for server in self.many.servers.items()]

    def many_text(self) -> str:
        """Write what very many owners would take."""
        if self.many is None:
            return ""
        many = self.many
        party = many.simulation.party
        return (
            f"{many.owners:,} owners of {many.dimension:,} coordinates, on machines of their own: "
            f"{many.predicted_seconds:,.0f} s, which is the work of the busiest server, the {many.busiest}, on one "
            f"core, and {many.message_rounds} message rounds of {1000 * many.round_trip_seconds:g} ms. Simulated: "
            f"connections and calls by real servers with {many.simulation.connections:,} owners at once, "
            f"{1000 * many.simulation.coordinator_seconds_per_owner:,.2f} ms each at the coordinator and "
            f"{1000 * many.simulation.transport_seconds_per_owner:,.2f} ms at the last party; what else that one does "
            f"by its own code, {party.enrolments_written:,} enrolments in its journal and {party.owners:,} uploads "
            f"({party.seconds:,.0f} s, {party.peak_memory_mib:,.0f} MiB). {LEFT_OUT}."
        )

    def _fitted_rows(self) -> list[ProtocolRow]:
        return [row for row in self.rows if row.bandwidth_mbit is None]

    def _range_text(self) -> str:
        rows = self._fitted_rows()
        owners, dimensions = [row.owners for row in rows], [row.dimension for row in rows]
        return (
            f"{min(owners):,} to {max(owners):,} owners, {min(dimensions):,} to {max(dimensions):,} coordinates and "
            f"round trips of up to {max(row.round_trip_ms for row in rows):g} ms"
        )

    def _largest_error(self) -> float:
        residuals = () if self.model is None else self.model.residuals
        return max(abs(each) / row.seconds for each, row in zip(residuals, self._fitted_rows(), strict=True))

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


def _processor_cells(row: ProtocolRow) -> list[str]:
    seconds = row.processor_seconds
    return [
        f"{row.owners:,}",
        f"{row.dimension:,}",
        str(row.parties),
        f"{row.round_trip_ms:g} ms",
        time_text(seconds[OWNERS] / row.owners),
        *(time_text(seconds[process]) for process in (COORDINATOR, "party-1", f"party-{row.parties}", "dealer")),
        time_text(sum(row.startup_processor_seconds.values())),
    ]


def _server_cells(name: str, server: ServerCost) -> list[str]:
    model = server.model
    return [
        name,
        time_text(model.start_seconds),
        f"{1e9 * model.seconds_per_byte:,.1f} ns",
        f"{1000 * model.seconds_per_owner:,.2f} ms",
        time_text(max(map(abs, model.residuals))),
        f"{server.predicted_seconds:,.0f} s",
        "-" if server.simulated_seconds is None else f"{server.simulated_seconds:,.0f} s",
        "-" if server.ratio is None else f"{server.ratio:.2f}",
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
