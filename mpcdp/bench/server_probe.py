"""What an owner costs a server: its connection, TLS, greeting and calls, measured at a real server on loopback.

The server has a process of its own, and only its processor seconds count. The coordinator is the product's desk for
owners with its journal. The compute party does nothing but answer: `mpcdp.bench.party_simulation` does the rest.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from mpcdp.bench.constant_training import ConstantTask, make_task
from mpcdp.bench.json_file import JsonFile
from mpcdp.bench.processes import Command, run_processes
from mpcdp.transport.channel import Member

__all__ = ["COORDINATOR", "OWNERS_HOST", "PARTY", "ProbeReport", "ServerProbe", "measure_server", "probe_command"]

COORDINATOR = "coordinator"
PARTY = "party-2"
"""The last compute party, to which shares are uploaded."""

OWNERS_HOST = "owners"
_PARTIES = ("party-1", PARTY)
_START_SECONDS = 120.0
_SECONDS_PER_OWNER = 0.3


@dataclass(frozen=True)
class ServerProbe(JsonFile):
    """One server and the owners that call it (fits `mpcdp.bench.processes.Job`).

    Args:
        server: `PARTY` or `COORDINATOR`.
        owners: number of owners, each with a connection and a certificate of its own.
        dimension: number of coordinates d of an upload or of a release.
        addresses: where the server listens, by name.
    """

    server: str
    owners: int
    dimension: int
    addresses: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> ConstantTask:
        """What they agree on."""
        return make_task(
            dimension=self.dimension,
            rounds=1,
            owners=[f"owner-{number}" for number in range(1, self.owners + 1)],
            parties=_PARTIES,
            noise="per-party",
            seconds=self.total_seconds,
        )

    @property
    def members(self) -> tuple[Member, ...]:
        """The server and the owners; nobody else is there."""
        return tuple(member for member in self.task.members() if member.role == "owner" or member.name == self.server)

    @property
    def process_names(self) -> tuple[str, ...]:
        """The server, and a process for all owners."""
        return self.server, OWNERS_HOST

    @property
    def total_seconds(self) -> float:
        """How long it may take at most."""
        return _START_SECONDS + _SECONDS_PER_OWNER * self.owners

    def placed(self, addresses: Mapping[str, str]) -> Self:
        """Return the same probe with addresses."""
        return replace(self, addresses=addresses)


@dataclass(frozen=True)
class ProbeReport(JsonFile):
    """What a process of a probe has measured.

    Args:
        processor_seconds: of all its threads, from when it was listening to when all owners had gone.
    """

    processor_seconds: float = 0.0


def probe_command(folder: Path, name: str) -> list[str]:
    """Return the command line of `mpcdp.bench.server_probe_worker`."""
    return [sys.executable, "-m", "mpcdp.bench.server_probe_worker", str(folder), name]


def measure_server(probe: ServerProbe, *, command: Command = probe_command) -> float:
    """Return the processor seconds that one owner costs a server.

    Args:
        probe: what to measure.
        command: what to start as its processes.

    Raises:
        PeerError: a process failed or did not end in time.
    """
    report = run_processes(probe, ProbeReport.load, command=command)[probe.server]
    return report.processor_seconds / probe.owners
