"""What one row of ``mpcdp bench rounds`` measures; its processes all read the same setting."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from mpcdp.bench.constant_training import ConstantTask, make_task
from mpcdp.bench.json_file import JsonFile
from mpcdp.transport.channel import Member

__all__ = ["RoundsSetting"]

_START_SECONDS = 120.0
_SECONDS_PER_OWNER = 0.3
_SECONDS_PER_SAMPLE = 1e-4
_OWNERS_PER_HOST = 50
_LARGEST_HOSTS = 20


@dataclass(frozen=True)
class RoundsSetting(JsonFile):
    """The processes of one session, ours or the one with plain sums.

    Args:
        dimension: number of coordinates d of a contribution.
        owners: number of owners m; they share processes.
        parties: number of compute parties k.
        noise: who samples the noise.
        rounds: rounds that are measured.
        warm_up: rounds before them that warm everything up.
        protected: False for plain sums: one process adds the owners' vectors up as they are, without noise.
        addresses: where each member that listens does, ``"host:port"`` by name; `mpcdp.bench.processes` finds them.
        routes: where the others call it, if not there: the addresses of a slow network.

    Raises:
        ValueError: a number is out of range.
    """

    dimension: int
    owners: int
    parties: int
    noise: Literal["joint", "per-party"]
    rounds: int
    warm_up: int = 1
    protected: bool = True
    addresses: Mapping[str, str] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 2 <= self.parties <= 5 or min(self.dimension, self.owners, self.rounds, self.warm_up + 1) < 1:
            raise ValueError("a row has 2 to 5 parties and at least one coordinate, one owner and one round")

    @property
    def plain(self) -> Self:
        """The same training with plain sums."""
        return replace(self, protected=False)

    @property
    def task(self) -> ConstantTask:
        """What the processes agree on. Plain sums need the last party alone, which no real task allows."""
        task = make_task(
            dimension=self.dimension,
            rounds=self.all_rounds,
            owners=self._owner_names,
            parties=[f"party-{number}" for number in range(1, self.parties + 1)],
            noise=self.noise if self.protected else "per-party",
            seconds=self._deadline_seconds,
        )
        return task if self.protected else task.model_copy(update={"compute_parties": task.compute_parties[-1:]})

    @property
    def members(self) -> tuple[Member, ...]:
        """Everybody in the session."""
        return self.task.members()

    @property
    def hosts(self) -> Mapping[str, tuple[str, ...]]:
        """The owners of each process that runs some."""
        count = min(_LARGEST_HOSTS, -(-self.owners // _OWNERS_PER_HOST))
        return {f"owners-{number + 1}": self._owner_names[number::count] for number in range(count)}

    @property
    def process_names(self) -> tuple[str, ...]:
        """All processes: servers first."""
        return (*(member.name for member in self.members if member.role != "owner"), *self.hosts)

    @property
    def all_rounds(self) -> int:
        """Number of rounds of a session."""
        return self.rounds + self.warm_up

    @property
    def total_seconds(self) -> float:
        """How long all processes may take at most: far longer than they ever should."""
        return _START_SECONDS + 2 * self._deadline_seconds + self.rounds * self._round_seconds

    def placed(self, addresses: Mapping[str, str]) -> Self:
        """Return the same row with addresses."""
        return replace(self, addresses=addresses)

    @property
    def _owner_names(self) -> tuple[str, ...]:
        return tuple(f"owner-{number}" for number in range(1, self.owners + 1))

    @property
    def _round_seconds(self) -> float:
        return 1 + _SECONDS_PER_OWNER / 10 * self.owners + self.owners * self.dimension * 1e-6

    @property
    def _deadline_seconds(self) -> float:
        """For starting, noise included, and for one round."""
        samples = self.dimension * self.all_rounds
        return _START_SECONDS + _SECONDS_PER_OWNER * self.owners + _SECONDS_PER_SAMPLE * samples + self._round_seconds
