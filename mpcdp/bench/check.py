"""``mpcdp bench check``: what the contribution check costs, on the processes of the noise benchmark."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from mpcdp.bench.machine import where_measured
from mpcdp.bench.noise import and_gates
from mpcdp.bench.processes import Command, run_processes
from mpcdp.bench.report import Report
from mpcdp.bench.setting import DEALER, Sampler, Setting
from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.contribution_check import NormCheck, check_schedule, norm_check

__all__ = ["CheckRow", "CheckSetting", "check_document", "measure_check"]


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
    return [sys.executable, "-m", "mpcdp.bench.check_worker", str(folder), name]
