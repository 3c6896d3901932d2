"""What each process of a row has measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mpcdp.bench.json_file import JsonFile

__all__ = ["Report", "Run", "peak_memory_mib", "time_text"]


@dataclass(frozen=True)
class Run:
    """One run at one compute party.

    Args:
        start: when all parties were ready, in seconds of the machine's monotonic clock, the same for all processes.
        end: when this party had its share.
        rounds: exchanges between the parties.
        bytes_sent: payload sent to all other parties together.
    """

    start: float
    end: float
    rounds: int
    bytes_sent: int


@dataclass(frozen=True)
class Report(JsonFile):
    """One process of a row.

    Args:
        idle_memory_mib: largest resident size before our first run.
        peak_memory_mib: after it, and before CrypTen's own sampler ran in earnest; the dealer's at its end.
        runs: ours, without the warm-up; none at the dealer.
        crypten_runs: CrypTen's own sampler, likewise.
        dealt_bytes: seeds and corrections of each of our runs; none at a party.
    """

    idle_memory_mib: float
    peak_memory_mib: float
    runs: tuple[Run, ...] = ()
    crypten_runs: tuple[Run, ...] = ()
    dealt_bytes: Mapping[str, int] = field(default_factory=dict)


def peak_memory_mib() -> float:
    """Return this process's largest resident size so far, in MiB.

    It is that of this program alone: ``getrusage`` starts at the size of the process that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def time_text(seconds: float) -> str:
    """Write a time for people."""
    return f"{1000 * seconds:,.0f} ms" if seconds < 1 else f"{seconds:,.2f} s"
