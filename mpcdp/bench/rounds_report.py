"""What each process of a session has measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mpcdp.bench.json_file import JsonFile

__all__ = ["OWNERS", "RoundsReport"]

OWNERS = "owners"
"""All owners together, where bytes are counted by who they went to."""


@dataclass(frozen=True)
class RoundsReport(JsonFile):
    """One process; what does not concern it is empty.

    Args:
        peak_memory_mib: largest resident size of the process, libraries included.
        seconds_by_round: at the coordinator: from when it asked for a round's contributions to when it had the release;
            the warm-up is left out.
        noise_ratio: at the coordinator: how far the last release was from the exact sum, root mean square over the
            coordinates, in standard deviations of the plan's noise. About 1, and 0 for plain sums.
        preparation: at a compute party: when it was asked to open the session and when its noise was ready, in seconds
            of the machine's monotonic clock, which is the same for all processes.
        online_bytes: at a compute party: payload sent to the other parties and the coordinator in all rounds.
        agreement_bytes: at a compute party: the part of it that settled the rounds' owners, and confirmed it.
        upload_bytes: at owners: the largest payload that one of them uploaded in all rounds together.
        phases: at the coordinator: how long joining, preparing and all rounds took, in seconds.
        sent: payload bytes from this process, or from all its owners, by who they went to: the name of a server, or
            `OWNERS` for all owners together.
        times: when things happened, in seconds of the monotonic clock. At the coordinator ``started`` the first
            round, ``released`` the last, ``closed`` the session; at a compute party ``enrolled`` the last owner,
            ``collected`` all that the last round needs, ``bound`` to it like all others.
        message_rounds: by phase, what went one after another at a compute party, or at the owner with most: its calls,
            and its exchanges with the other parties.
        startup_processor_seconds: of all the process's threads, user and system, until everything was imported and the
            task was read.
        processor_seconds: from then to its end.
    """

    peak_memory_mib: float
    seconds_by_round: tuple[float, ...] = ()
    noise_ratio: float = 0.0
    preparation: tuple[float, ...] = ()
    online_bytes: int = 0
    agreement_bytes: int = 0
    upload_bytes: int = 0
    phases: Mapping[str, float] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    times: Mapping[str, float] = field(default_factory=dict)
    message_rounds: Mapping[str, int] = field(default_factory=dict)
    startup_processor_seconds: float = 0.0
    processor_seconds: float = 0.0
