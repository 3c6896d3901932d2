"""The rows of ``mpcdp bench rounds``: what a training round costs, beside plain sums and a loop in the clear."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mpcdp.bench.machine import where_measured
from mpcdp.bench.processes import Command, run_processes
from mpcdp.bench.rounds_report import RoundsReport
from mpcdp.bench.rounds_setting import RoundsSetting
from mpcdp.data.dataset import Dataset

__all__ = ["RoundsRow", "clear_seconds", "measure_rounds", "rounds_command", "rounds_document"]

_CLEAR_ROUNDS = 5


@dataclass(frozen=True)
class RoundsRow:
    """What a round of one setting costs; times are medians over the rounds, without the first of each session.

    Args:
        dimension: number of coordinates d of a contribution.
        owners: number of owners m.
        parties: number of compute parties k.
        noise: who samples it: ``"joint"`` or ``"per-party"``.
        rounds: rounds measured in each session.
        sessions: sessions measured, each with ours first and then plain sums.
        seconds_per_round: from when the coordinator asks for contributions to when it has the release.
        plain_seconds_per_round: the same roles, processes and connections, but the owners' vectors go unmasked to one
            process that adds them up: no agreement, no noise, nothing written down.
        ratio: seconds_per_round / plain_seconds_per_round.
        clear_seconds_per_round: one loop in one process that computes and adds the same vectors.
        offline_seconds: for noise and connections before the first round, for all rounds of a session together.
        upload_bytes_per_owner: what an owner sends in a round, to one party.
        release_bytes_per_party: what a party sends in a round to the other parties and the coordinator to reveal it:
            the largest of all parties.
        agreement_bytes_per_party: what it sends besides, to agree on the owners and to confirm that it is written down.
        party_peak_memory_mib: of the largest compute party, libraries included.
        coordinator_peak_memory_mib: of the coordinator, libraries included.
        noise_ratio: deviation of a release from the exact sum, in standard deviations of the plan's noise: about 1.
        seconds_by_round: ours, in order.
        plain_seconds_by_round: those of plain sums, in order.
    """

    dimension: int
    owners: int
    parties: int
    noise: str
    rounds: int
    sessions: int
    seconds_per_round: float
    plain_seconds_per_round: float
    ratio: float
    clear_seconds_per_round: float
    offline_seconds: float
    upload_bytes_per_owner: float
    release_bytes_per_party: float
    agreement_bytes_per_party: float
    party_peak_memory_mib: float
    coordinator_peak_memory_mib: float
    noise_ratio: float
    seconds_by_round: tuple[float, ...]
    plain_seconds_by_round: tuple[float, ...]


def rounds_command(folder: Path, name: str) -> list[str]:
    """Return the command line of `mpcdp.bench.rounds_worker`."""
    return [sys.executable, "-m", "mpcdp.bench.rounds_worker", str(folder), name]


def measure_rounds(setting: RoundsSetting, *, sessions: int = 1, command: Command = rounds_command) -> RoundsRow:
    """Run sessions of a setting, ours and those with plain sums in turn, and put their reports together.

    Args:
        setting: what to measure.
        sessions: how many of each; what else the machine does then hits both.
        command: what to start as their processes.

    Raises:
        PeerError: a process failed or did not end in time.
    """
    ours, plain = [], []
    for _ in range(sessions):
        ours.append(run_processes(setting, RoundsReport.load, command=command))
        plain.append(run_processes(setting.plain, RoundsReport.load, command=command))
    seconds, plain_seconds = _seconds(ours), _seconds(plain)
    parties = [reports[party.name] for reports in ours for party in setting.task.compute_parties]
    all_rounds = setting.all_rounds
    return RoundsRow(
        dimension=setting.dimension,
        owners=setting.owners,
        parties=setting.parties,
        noise=setting.noise,
        rounds=setting.rounds,
        sessions=sessions,
        seconds_per_round=median(seconds),
        plain_seconds_per_round=median(plain_seconds),
        ratio=median(seconds) / median(plain_seconds),
        clear_seconds_per_round=clear_seconds(setting),
        offline_seconds=median(_offline_seconds(setting, reports) for reports in ours),
        upload_bytes_per_owner=max(report.upload_bytes for report in ours[0].values()) / all_rounds,
        release_bytes_per_party=max(party.online_bytes - party.agreement_bytes for party in parties) / all_rounds,
        agreement_bytes_per_party=max(party.agreement_bytes for party in parties) / all_rounds,
        party_peak_memory_mib=max(party.peak_memory_mib for party in parties),
        coordinator_peak_memory_mib=max(reports["coordinator"].peak_memory_mib for reports in ours),
        noise_ratio=median(reports["coordinator"].noise_ratio for reports in ours),
        seconds_by_round=seconds,
        plain_seconds_by_round=plain_seconds,
    )


def clear_seconds(setting: RoundsSetting) -> float:
    """Measure a round of the same training in the clear: a loop over the owners, in this process."""
    method = setting.task.method()
    dataset = Dataset(np.zeros((1, setting.task.schema_.dimension)), np.ones(1))
    state = method.initial_state()
    seconds = []
    for _ in range(_CLEAR_ROUNDS):
        begin = time.monotonic()
        total = np.zeros(setting.dimension)
        for _ in range(setting.owners):
            total += method.contribution(dataset, state, key=b"")
        state = method.next_state(state, total, record_count=setting.owners)
        seconds.append(time.monotonic() - begin)
    return median(seconds)


def rounds_document(rows: Sequence[RoundsRow], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {"rows": [asdict(row) for row in rows], "notes": list(notes), **where_measured()}


def _seconds(sessions: Sequence[Mapping[str, RoundsReport]]) -> tuple[float, ...]:
    return tuple(seconds for reports in sessions for seconds in reports["coordinator"].seconds_by_round)


def _offline_seconds(setting: RoundsSetting, reports: Mapping[str, RoundsReport]) -> float:
    """Compute the time from when the last party was up to when all were ready."""
    begins, ends = zip(*(reports[party.name].preparation for party in setting.task.compute_parties), strict=True)
    return float(max(ends) - max(begins))
