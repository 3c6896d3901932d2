"""``mpcdp bench check``: what the contribution check costs, on the processes of the noise benchmark."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self, cast

import numpy as np

from mpcdp.bench.machine import where_measured
from mpcdp.bench.noise import and_gates
from mpcdp.bench.processes import Command, end_with_parent, run_processes
from mpcdp.bench.report import Report, Run, peak_memory_mib
from mpcdp.bench.setting import DEALER, Sampler, Setting
from mpcdp.bench.worker import CountingMesh, ask_dealer, network_of, serve_as_dealer
from mpcdp.errors import MpcdpError, ProtocolError
from mpcdp.mpc.backend import CorrelationRequest, Mesh
from mpcdp.mpc.contribution_check import NormCheck, check_contributions, check_schedule, norm_check
from mpcdp.secret_sharing.shares import SharedVector
from mpcdp.transport.channel import ComputePartyService
from mpcdp.transport.grpc import GrpcNetwork

__all__ = ["CheckRow", "CheckSetting", "check_document", "main", "measure_check"]


@dataclass(frozen=True)
class CheckSetting(Setting):
    """One row: a check of some owners' vectors.

    Args:
        owners: number of owners m.
        length_bits: honest vectors are as long as 2^length_bits ring units.
    """

    owners: int = 1
    length_bits: int = 31

    @classmethod
    def of(cls, *, parties: int, dimension: int, owners: int, length_bits: int, runs: int) -> Self:
        """Describe a row; there is no noise in it and nothing of CrypTen's to compare with."""
        row = cls(Sampler.GAUSSIAN, parties, dimension, runs, crypten=False)
        return cls(**{**asdict(row), "sampler": row.sampler, "owners": owners, "length_bits": length_bits})

    @property
    def check(self) -> NormCheck:
        """The check's numbers."""
        return norm_check(dimension=self.dimension, scale=1.0, bounds=[2.0**self.length_bits] * self.owners)

    def schedule(self, count: int) -> tuple[CorrelationRequest, ...]:
        """List what the dealer deals for a check of so many owners."""
        return check_schedule(self.check, count)

    @property
    def batches(self) -> Mapping[str, int]:
        """The number of owners of each run by the name of its batch, the warm-up first."""
        return {"warm-up": 1, **{f"run-{number}": self.owners for number in range(self.runs)}}

    @property
    def run_seconds(self) -> float:
        """How long one run may take at most."""
        return super().run_seconds * self.owners


@dataclass(frozen=True)
class CheckRow:
    """What one check costs; the time is the median over the runs.

    Args:
        parties: number of compute parties k.
        owners: number of owners m.
        dimension: number of coordinates d.
        length_bits: honest vectors are as long as 2^length_bits ring units.
        shift: low digits dropped before squaring.
        slack: how much longer than an honest vector one that passes may be, relative.
        runs: how often it was measured.
        seconds: from when all parties were ready to when all knew the verdicts, the dealer's work included.
        rounds: exchanges between the parties.
        ands_per_coordinate: AND gates per coordinate and owner, the lanes of half-filled words included.
        bytes_sent_per_coordinate: payload that one party sends to each other one, per coordinate and owner.
        dealer_bytes_per_coordinate: payload that the dealer sends to all parties together, per coordinate and owner.
        peak_memory_mib: of the largest process, libraries included.
        seconds_by_run: in order.
    """

    parties: int
    owners: int
    dimension: int
    length_bits: int
    shift: int
    slack: float
    runs: int
    seconds: float
    rounds: int
    ands_per_coordinate: float
    bytes_sent_per_coordinate: float
    dealer_bytes_per_coordinate: float
    peak_memory_mib: float
    seconds_by_run: tuple[float, ...]


def measure_check(setting: CheckSetting, *, command: Command | None = None) -> CheckRow:
    """Run the processes of a row and put their reports together.

    Raises:
        PeerError: a process failed or did not end in time.
    """
    reports = run_processes(setting, Report.load, command=command or _command)
    runs = [reports[name].runs for name in setting.party_names]
    seconds = tuple(max(r.end for r in each) - min(r.start for r in each) for each in zip(*runs, strict=True))
    coordinates, check = setting.owners * setting.dimension, setting.check
    sent = max(party[0].bytes_sent for party in runs) / (setting.parties - 1)
    return CheckRow(
        parties=setting.parties,
        owners=setting.owners,
        dimension=setting.dimension,
        length_bits=setting.length_bits,
        shift=check.shift,
        slack=check.accepted(0) / 2.0**setting.length_bits - 1,
        runs=setting.runs,
        seconds=median(seconds),
        rounds=runs[0][0].rounds,
        ands_per_coordinate=and_gates(setting.schedule(setting.owners)) / coordinates,
        bytes_sent_per_coordinate=sent / coordinates,
        dealer_bytes_per_coordinate=max(reports[DEALER].dealt_bytes.values()) / coordinates,
        peak_memory_mib=max(report.peak_memory_mib for report in reports.values()),
        seconds_by_run=seconds,
    )


def check_document(rows: Sequence[CheckRow]) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {"rows": [asdict(row) for row in rows], **where_measured()}


def _command(folder: Path, name: str) -> list[str]:
    return [sys.executable, "-m", "mpcdp.bench.check", str(folder), name]


def main(folder: Path, name: str) -> int:
    """Run one process of a row until it has reported.

    Args:
        folder: holds the setting, and a folder of each process's own for its credentials and its report.
        name: which process this is.

    Returns:
        The exit code; an error is written to standard error.
    """
    end_with_parent()
    document = json.loads((folder / "setting.json").read_text(encoding="utf-8"))
    setting = CheckSetting(**{**document, "sampler": Sampler(document["sampler"])})
    try:
        with network_of(setting, folder, name) as network:
            report = serve_as_dealer(setting, network) if name == DEALER else _run_party(setting, network, name)
            report.save(folder / name / "report.json")
    except MpcdpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _run_party(setting: CheckSetting, network: GrpcNetwork, name: str) -> Report:
    runs: list[Run] = []
    idle = peak_memory_mib()
    # Nobody may call a compute party's methods here: there is no owner and no coordinator.
    service = cast(ComputePartyService, object())
    with network.serve(service), network.mesh(setting.ref, setting.party_names) as mesh:
        for batch, owners in setting.batches.items():
            runs.append(_run_once(setting, network, name, mesh, batch=batch, owners=owners))
    return Report(idle, peak_memory_mib(), runs=tuple(runs[1:]))


def _run_once(setting: CheckSetting, network: GrpcNetwork, name: str, mesh: Mesh, *, batch: str, owners: int) -> Run:
    """Check vectors that are all as long as they may be, and so must pass."""
    from mpcdp.mpc.crypten_backend import crypten_engine

    vector = np.zeros(setting.dimension, dtype=np.int64)
    if mesh.rank == 0:
        vector[0] = 1 << setting.length_bits
    shares = (SharedVector(vector.copy()) for _ in range(owners))
    counting = CountingMesh(mesh)
    with crypten_engine(counting, None) as backend:
        mesh.exchange("bench/ready", b"")
        start = time.monotonic()
        source = ask_dealer(setting, network, name, batch)
        backend.supply(source)
        passed = backend.reveal_verdicts(check_contributions(backend, setting.check, range(owners), shares))
        end = time.monotonic()
    source.finish()
    if not passed.all():
        raise ProtocolError("a vector of the largest honest length failed: run the same version of mpcdp everywhere")
    return Run(start, end, rounds=counting.rounds, bytes_sent=counting.bytes_sent)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
