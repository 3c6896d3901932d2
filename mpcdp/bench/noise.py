"""The rows of ``mpcdp bench noise``: what one setting's processes measured, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from mpcdp.bench.machine import where_measured
from mpcdp.bench.processes import Command, run_processes, worker_command
from mpcdp.bench.published import PUBLISHED
from mpcdp.bench.report import Report, Run
from mpcdp.bench.setting import DEALER, Setting
from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.bit_slicing import LANES

__all__ = ["Row", "and_gates", "document", "measure"]


@dataclass(frozen=True)
class Row:
    """What one setting costs; times are medians over the runs.

    Args:
        sampler: ``"gaussian"`` or ``"laplace"``, joint; ``"per-party"``: each party's own Gaussian.
        parties: number of compute parties k.
        dimension: number of samples d of a run.
        runs: how often it was measured.
        seconds: from when all parties were ready to when all had their share, the dealer's work included.
        samples_per_second: d / seconds.
        rounds: exchanges between the parties.
        ands_per_sample: AND gates on shared bits; lanes of the last word that hold no sample count too.
        bytes_sent_per_sample: payload that the party which sends most sends to all others together.
        dealer_bytes_per_sample: payload that the dealer sends to all parties together.
        peak_memory_mib: of the largest process, libraries included.
        idle_memory_mib: of the same process before it sampled in earnest: libraries, mostly.
        crypten_seconds: CrypTen's own sampler on the same processes and connections, run by run in turn with ours.
        ratio: seconds / crypten_seconds.
        crypten_rounds: exchanges between the parties.
        crypten_bytes_sent_per_sample: as for ours; CrypTen's triples cost nothing, as rank 0 knows them all.
        seconds_by_run: ours, in order.
        crypten_seconds_by_run: CrypTen's, in order.
        notes: what to know about this row.
    """

    sampler: str
    parties: int
    dimension: int
    runs: int
    seconds: float
    samples_per_second: float
    rounds: int
    ands_per_sample: float
    bytes_sent_per_sample: float
    dealer_bytes_per_sample: float
    peak_memory_mib: float
    idle_memory_mib: float
    crypten_seconds: float | None
    ratio: float | None
    crypten_rounds: int | None
    crypten_bytes_sent_per_sample: float | None
    seconds_by_run: tuple[float, ...]
    crypten_seconds_by_run: tuple[float, ...]
    notes: tuple[str, ...]


def measure(setting: Setting, *, notes: Sequence[str] = (), command: Command = worker_command) -> Row:
    """Run the processes of a setting and put their reports together.

    Args:
        setting: what to measure.
        notes: what to know about this row.
        command: what to start as its processes.

    Raises:
        PeerError: a process failed or did not end in time.
    """
    reports = run_processes(setting, Report.load, command=command)
    parties = [reports[name] for name in setting.party_names]
    ours = [report.runs for report in parties]
    theirs = [report.crypten_runs for report in parties] if setting.crypten else []
    seconds, crypten_seconds = _seconds(ours), _seconds(theirs)
    samples = setting.dimension
    largest = max(reports.values(), key=lambda report: report.peak_memory_mib)
    return Row(
        sampler=setting.sampler.value,
        parties=setting.parties,
        dimension=samples,
        runs=setting.runs,
        seconds=median(seconds),
        samples_per_second=samples / median(seconds),
        rounds=ours[0][0].rounds,
        ands_per_sample=and_gates(setting.noise.schedule(samples)) / samples if setting.joint else 0.0,
        bytes_sent_per_sample=_largest_bytes(ours) / samples,
        dealer_bytes_per_sample=_dealt_bytes(reports) / samples,
        peak_memory_mib=largest.peak_memory_mib,
        idle_memory_mib=largest.idle_memory_mib,
        crypten_seconds=median(crypten_seconds) if theirs else None,
        ratio=median(seconds) / median(crypten_seconds) if theirs else None,
        crypten_rounds=theirs[0][0].rounds if theirs else None,
        crypten_bytes_sent_per_sample=_largest_bytes(theirs) / samples if theirs else None,
        seconds_by_run=seconds,
        crypten_seconds_by_run=crypten_seconds,
        notes=tuple(notes),
    )


def and_gates(schedule: Sequence[CorrelationRequest]) -> int:
    """Count the AND gates, one for each of a word's lanes, that a schedule of correlations is for.

    One word serves as many gates as it has rows, or links of a chain; random integers and masks serve none. A row that
    q bits select counts as often as a tree of choices between two has choices, 2^q - 1 times.
    """
    return LANES * sum(
        request.words * request.fan * ((1 << request.selectors) - 1)
        for request in schedule
        if request.kind in ("and", "chain")
    )


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    return {
        "rows": [asdict(row) for row in rows],
        "published": [asdict(published) for published in PUBLISHED],
        **where_measured(),
    }


def _seconds(parties: Sequence[Sequence[Run]]) -> tuple[float, ...]:
    """Compute the time of each run from the first party's start to the last party's end."""
    return tuple(max(run.end for run in each) - min(run.start for run in each) for each in zip(*parties, strict=True))


def _largest_bytes(parties: Sequence[Sequence[Run]]) -> int:
    return max(runs[0].bytes_sent for runs in parties)


def _dealt_bytes(reports: Mapping[str, Report]) -> int:
    return max(reports[DEALER].dealt_bytes.values()) if DEALER in reports else 0
