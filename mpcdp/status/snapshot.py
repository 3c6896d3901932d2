"""Everything that a process shows about itself, and why each item may be shown.

========================  =============================================================================================
item                      why it is public
========================  =============================================================================================
role, name, task, digest  the task names them; every message carries the digest
versions                  of the software that runs here
state                     when a process is there is public (README, "Outside the guarantee")
rounds, planned rounds    computed from the task; the coordinator and every compute party see rounds pass
owners present, expected  the task lists the owners, and when they are on line is public
epsilon                   computed from the task and the number of rounds
noise                     positions in the pools: computed from the tasks that used them
bytes by peer             sizes of messages are computed from the task
failed handshakes         whoever connects causes them; only their number is shown
refused, notices          texts of `mpcdp.errors`, which by contract hold no secret and nothing computed from records
seconds per round         at the coordinator and compute parties, who see when messages come; **not at owners**, whose
                          training takes a time that depends on their records
memory, processor time    of servers, which do the same work whatever the shares are; **not of owners**, whose memory
                          depends on how long the texts in their table are
certificate's expiry      certificates are shown to everybody who connects
========================  =============================================================================================

Not shown, although public: releases and models (large), and the model's quality on public records.
"""

import datetime
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mpcdp.status.progress import Progress, Seen

__all__ = ["Facts", "Figures", "NoiseStock", "Status"]

_STOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Facts:
    """What does not change while a process runs.

    Args:
        role: what it does.
        name: its name in the task.
        task: the task's name.
        digest: the task's digest, hexadecimal.
        rounds: how many the plan has.
        owners: how many the task lists.
        epsilon: what all rounds cost.
        delta: likewise.
        certificate_expires: when the process's certificate does.
        versions: of mpcdp and what it stands on, by name.
    """

    role: str
    name: str
    task: str
    digest: str
    rounds: int
    owners: int
    epsilon: float
    delta: float
    certificate_expires: datetime.datetime
    versions: Mapping[str, str]

    @property
    def serves(self) -> bool:
        """Whether it is a server, whose timing and memory depend on no record."""
        return self.role != "owner"


@dataclass(frozen=True)
class NoiseStock:
    """A compute party's pool of joint noise.

    Args:
        free: samples that no session has had.
        used: samples that sessions have had, or that were given up.
    """

    free: int
    used: int


@dataclass(frozen=True)
class Figures:
    """What is looked up when somebody asks.

    Args:
        bytes_sent: by peer.
        epsilon_after: what so many rounds cost.
        noise: the pool; None for a process that has none.
        left_out: entries that the log did not write.
    """

    bytes_sent: Callable[[], Mapping[str, int]]
    epsilon_after: Callable[[int], float]
    noise: Callable[[], NoiseStock | None] | None
    left_out: Callable[[], int]


class Status:
    """How one process is doing; safe to use from any thread.

    Args:
        facts: what does not change.
        figures: what is looked up.
        progress: what its log says.
    """

    def __init__(self, facts: Facts, figures: Figures, progress: Progress) -> None:
        self.facts = facts
        self._figures = figures
        self._progress = progress
        self._stock: tuple[float, NoiseStock | None] = (-_STOCK_SECONDS, None)

    @property
    def seen(self) -> Seen:
        """What the log says."""
        return self._progress.seen()

    @property
    def bytes_sent(self) -> Mapping[str, int]:
        """By peer."""
        return self._figures.bytes_sent()

    @property
    def left_out(self) -> int:
        """Entries that the log did not write."""
        return self._figures.left_out()

    def epsilon_spent(self, seen: Seen) -> float:
        """What was paid: by an owner the whole plan, before its first upload; elsewhere the rounds released."""
        return seen.charged if not self.facts.serves else self._figures.epsilon_after(seen.rounds)

    @property
    def noise(self) -> NoiseStock | None:
        """The pool of joint noise; read from the disk every few seconds at most."""
        if self._figures.noise is None:
            return None
        now = time.monotonic()
        when, stock = self._stock
        if now - when >= _STOCK_SECONDS:
            stock = self._figures.noise()
            self._stock = (now, stock)
        return stock

    def document(self) -> dict[str, Any]:
        """Return everything as JSON would hold it."""
        facts, seen, noise = self.facts, self.seen, self.noise
        timing = {"counts": list(seen.round_counts), "sum": seen.round_seconds} if facts.serves else None
        return {
            "role": facts.role,
            "name": facts.name,
            "task": {"name": facts.task, "digest": facts.digest},
            "state": seen.state,
            "rounds": {"done": seen.rounds, "planned": facts.rounds},
            # Owners know of no others; the dealer is told of none.
            "owners": {"present": sorted(seen.owners), "expected": facts.owners}
            if facts.role in ("coordinator", "compute")
            else None,
            "epsilon": {"spent": self.epsilon_spent(seen), "planned": facts.epsilon, "delta": facts.delta},
            "noise": None if noise is None else asdict(noise),
            "bytes_sent": dict(self.bytes_sent),
            "refused": dict(seen.refused),
            "handshakes_failed": seen.handshakes_failed,
            "log_entries_left_out": self.left_out,
            "round_seconds": timing,
            "notices": [asdict(notice) for notice in seen.notices],
            "refusals": [asdict(notice) for notice in seen.refusals],
            "certificate_expires": facts.certificate_expires.isoformat(),
            "versions": dict(facts.versions),
        }
