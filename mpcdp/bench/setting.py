"""What one row of the benchmark measures; its processes all read the same setting."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Self

from mpcdp.bench.json_file import JsonFile
from mpcdp.mpc.backend import CorrelationRequest
from mpcdp.mpc.noise import UniversalNoise, universal_noise
from mpcdp.transport.channel import Limits, Member
from mpcdp.transport.messages import SessionRef

__all__ = ["DEALER", "Sampler", "Setting"]

DEALER = "dealer"
"""Name of the dealer's process."""

_WARM_UP_SAMPLES = 64
_START_SECONDS = 120.0
_SECONDS_PER_SAMPLE = 0.001


class Sampler(StrEnum):
    """What is measured."""

    GAUSSIAN = "gaussian"
    """The joint discrete Gaussian."""
    LAPLACE = "laplace"
    """The joint discrete Laplace."""
    PER_PARTY = "per-party"
    """The discrete Gaussian that each party samples for itself."""


@dataclass(frozen=True)
class Setting(JsonFile):
    """One row.

    Args:
        sampler: what is measured.
        parties: number of compute parties k.
        dimension: number of samples d that one run makes.
        runs: how often it is measured, after one small run that loads and connects everything.
        crypten: whether a run of CrypTen's own sampler follows each of ours.
        session: 64 hexadecimal digits, fresh for the processes that run it; `placed` draws it.
        addresses: where each of them listens, ``"host:port"`` by name; likewise.

    Raises:
        ValueError: a number is out of range, or CrypTen has no such sampler.
    """

    sampler: Sampler
    parties: int
    dimension: int
    runs: int
    crypten: bool
    session: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 2 <= self.parties <= 5 or self.dimension < 1 or self.runs < 1:
            raise ValueError("a row has 2 to 5 parties and at least one sample and one run")
        if self.crypten and not self.joint:
            raise ValueError("CrypTen has no per-party noise to compare with")

    @property
    def joint(self) -> bool:
        """Whether the parties sample together, with a dealer."""
        return self.sampler is not Sampler.PER_PARTY

    @property
    def noise(self) -> UniversalNoise:
        """The noise that is sampled."""
        if self.sampler is Sampler.LAPLACE:
            return universal_noise("laplace", "joint")
        return universal_noise("gaussian", "joint" if self.joint else "per-party")

    def schedule(self, count: int) -> tuple[CorrelationRequest, ...]:
        """List what the dealer deals for a run of so many samples."""
        return self.noise.schedule(count)

    @property
    def party_names(self) -> tuple[str, ...]:
        """The compute parties by rank."""
        return tuple(f"party-{number}" for number in range(1, self.parties + 1))

    @property
    def process_names(self) -> tuple[str, ...]:
        """All processes, the dealer first if there is one."""
        return (DEALER, *self.party_names) if self.joint else self.party_names

    @property
    def members(self) -> tuple[Member, ...]:
        """All processes as the network knows them; nobody is there who could call anything but the mesh and deal."""
        return tuple(
            Member(name, "dealer" if name == DEALER else "compute", certificate=name) for name in self.process_names
        )

    @property
    def batches(self) -> Mapping[str, int]:
        """The number of samples of each run by the name of its batch, the warm-up first."""
        return {"warm-up": _WARM_UP_SAMPLES, **{f"run-{number}": self.dimension for number in range(self.runs)}}

    @property
    def ref(self) -> SessionRef:
        """The session of these processes; there is no task."""
        return SessionRef(task_digest=bytes(32), session=bytes.fromhex(self.session))

    @property
    def run_seconds(self) -> float:
        """How long one run, ours or CrypTen's, may take at most: far longer than it ever should."""
        return _START_SECONDS + _SECONDS_PER_SAMPLE * self.dimension

    @property
    def total_seconds(self) -> float:
        """How long all processes may take at most."""
        return _START_SECONDS + self.run_seconds * (self.runs + 1) * (2 if self.crypten else 1)

    @property
    def limits(self) -> Limits:
        """The transport's bounds."""
        return Limits(
            dimension=self.dimension,
            connect_seconds=_START_SECONDS,
            call_seconds=self.run_seconds,
            prepare_seconds=self.run_seconds,
            message_seconds=self.run_seconds,
            session_seconds=self.total_seconds,
        )

    def placed(self, addresses: Mapping[str, str]) -> Self:
        """Return the same row with addresses and a session of its own."""
        return replace(self, session=secrets.token_hex(32), addresses=addresses)
