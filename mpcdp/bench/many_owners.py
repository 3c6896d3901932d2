"""Very many owners, each on a machine of its own: what a model of each server says, and what a simulation of it says.

Both count a server's processor seconds for a whole session: the model extrapolates those of the servers of sessions
that were measured, the simulation adds up what a server does for an owner, each part done by the product's code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mpcdp.bench.cost_model import ServerModel, ServerObservation, fit_server
from mpcdp.bench.party_simulation import PartySimulation, simulate_party
from mpcdp.bench.protocol import ProtocolRow
from mpcdp.bench.server_probe import COORDINATOR, PARTY, ServerProbe, measure_server

__all__ = ["FIRST_PARTY", "LAST_PARTY", "SERVERS", "ManyOwners", "ServerCost", "Simulation", "predict", "simulate"]

FIRST_PARTY, LAST_PARTY = "first party", "last party"
SERVERS = (COORDINATOR, FIRST_PARTY, LAST_PARTY)
"""Those that owners call; of the parties other than the last one, which do the same, the first stands for all."""

_CONNECTIONS = 200


@dataclass(frozen=True)
class Simulation:
    """What servers do for very many owners, put together from measured parts.

    Args:
        connections: owners that a real server had at once, to measure the next two.
        coordinator_seconds_per_owner: processor seconds of the coordinator: connection, events, journal.
        transport_seconds_per_owner: processor seconds of the last party's transport: connection, calls, messages.
        party: what else the last party does.
    """

    connections: int
    coordinator_seconds_per_owner: float
    transport_seconds_per_owner: float
    party: PartySimulation

    @property
    def seconds(self) -> Mapping[str, float]:
        """Processor seconds of the servers that are simulated."""
        owners = self.party.owners
        return {
            COORDINATOR: self.coordinator_seconds_per_owner * owners,
            LAST_PARTY: self.transport_seconds_per_owner * owners + self.party.seconds,
        }


@dataclass(frozen=True)
class ServerCost:
    """One server in a session of very many owners.

    Args:
        model: of its processor seconds, fitted to the sessions that were measured.
        bytes_received: extrapolated from them.
        predicted_seconds: processor seconds by the model.
        simulated_seconds: processor seconds by the simulation, None for a server that is not simulated.
    """

    model: ServerModel
    bytes_received: float
    predicted_seconds: float
    simulated_seconds: float | None

    @property
    def ratio(self) -> float | None:
        """Predicted over simulated."""
        return None if self.simulated_seconds is None else self.predicted_seconds / self.simulated_seconds


@dataclass(frozen=True)
class ManyOwners:
    """A session of very many owners on machines of their own.

    Args:
        owners: how many.
        dimension: number of coordinates d.
        servers: by name, out of `SERVERS`.
        message_rounds: messages that follow one another; they do not grow with the owners.
        round_trip_seconds: of the network.
        simulation: the parts of what was simulated.
    """

    owners: int
    dimension: int
    servers: Mapping[str, ServerCost]
    message_rounds: int
    round_trip_seconds: float
    simulation: Simulation

    @property
    def busiest(self) -> str:
        """The server with most to do."""
        return max(self.servers, key=lambda name: self.servers[name].predicted_seconds)

    @property
    def predicted_seconds(self) -> float:
        """How long the session takes if each server has one core, and works on nothing else and without a pause."""
        return self.servers[self.busiest].predicted_seconds + self.message_rounds * self.round_trip_seconds

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        servers = {name: asdict(server) | {"ratio": server.ratio} for name, server in self.servers.items()}
        found = {"servers": servers, "busiest": self.busiest, "predicted_seconds": self.predicted_seconds}
        return asdict(self) | found


def simulate(*, owners: int, dimension: int, connections: int = _CONNECTIONS) -> Simulation:
    """Let real servers serve some owners, and the last party's code very many.

    Args:
        owners: number of owners m.
        dimension: number of coordinates d.
        connections: owners of a real server.

    Raises:
        PeerError: a process failed or did not end in time.
    """
    coordinator, transport = (
        measure_server(ServerProbe(server, connections, dimension)) for server in (COORDINATOR, PARTY)
    )
    return Simulation(connections, coordinator, transport, simulate_party(owners=owners, dimension=dimension))


def predict(
    rows: Sequence[ProtocolRow], *, owners: int, simulation: Callable[..., Simulation] = simulate
) -> ManyOwners:
    """Predict very many owners by a model of each server, and set a simulation beside it.

    Args:
        rows: all sessions that were measured; those that differ from the first one in their owners only tell what a
            server receives.
        owners: how many to predict.
        simulation: simulates them; not called before the models are fitted.

    Raises:
        ValueError: the rows do not determine the models.
        PeerError: a process of the simulation failed.
    """
    first = rows[0]
    alike = [row for row in rows if _without_owners(row) == _without_owners(first)]
    if len({row.owners for row in alike}) < 2:
        raise ValueError("very many owners are predicted from two or more numbers of owners: repeat --owners")
    models = {server: fit_server([_observation(row, server) for row in rows]) for server in SERVERS}
    received = {server: _extrapolated([_observation(row, server) for row in alike], owners) for server in SERVERS}
    simulated = simulation(owners=owners, dimension=first.dimension)
    return ManyOwners(
        owners=owners,
        dimension=first.dimension,
        servers={
            server: ServerCost(
                model=model,
                bytes_received=received[server],
                predicted_seconds=model.predict(bytes_received=received[server], owners=owners),
                simulated_seconds=simulated.seconds.get(server),
            )
            for server, model in models.items()
        },
        message_rounds=first.message_rounds,
        round_trip_seconds=first.round_trip_ms / 1000,
        simulation=simulated,
    )


def _extrapolated(observations: Sequence[ServerObservation], owners: int) -> float:
    """Return the bytes that a server receives, by a line through those that it was measured to receive."""
    measured = [float(each.owners) for each in observations]
    per_owner, start = np.polyfit(measured, [each.bytes_received for each in observations], 1)
    return float(start + per_owner * owners)


def _process(row: ProtocolRow, server: str) -> str:
    return {COORDINATOR: COORDINATOR, FIRST_PARTY: "party-1", LAST_PARTY: f"party-{row.parties}"}[server]


def _observation(row: ProtocolRow, server: str) -> ServerObservation:
    process = _process(row, server)
    return ServerObservation(row.bytes_received[process], row.owners, row.processor_seconds[process])


def _without_owners(row: ProtocolRow) -> tuple[object, ...]:
    return row.dimension, row.parties, row.round_trip_ms, row.bandwidth_mbit
