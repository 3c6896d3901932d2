"""What stands in a ledger's rows, and the hash chain that holds them together."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mpcdp.privacy.budget import PrivacyBudget
from mpcdp.privacy.composition import GaussianCost, TaskCost

__all__ = [
    "GENESIS",
    "Charge",
    "Entry",
    "NoiseRecord",
    "ReleaseRecord",
    "chain_hash",
    "charge_text",
    "find_charge",
    "find_noise",
    "find_releases",
    "noise_text",
    "parse_row",
    "release_text",
]

GENESIS = bytes(32)
"""What stands in for the hash of the row before row 1."""


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A session was paid for.

    Args:
        number: row, from 1.
        time: UTC, ISO 8601.
        task_digest: 32 bytes.
        session: session id, 32 bytes.
        task_name: the task's own name.
        cost: of all releases together.
        releases: how many releases that covers.
        gaussian: the same cost as one Gaussian; None for other mechanisms, and in rows older than this field.
    """

    number: int
    time: str
    task_digest: bytes
    session: bytes
    task_name: str
    cost: PrivacyBudget
    releases: int
    gaussian: GaussianCost | None = None

    @property
    def task_cost(self) -> TaskCost:
        """What is composed with other charges."""
        return TaskCost(budget=self.cost, gaussian=self.gaussian)


@dataclass(frozen=True, kw_only=True)
class ReleaseRecord:
    """A release happened that an earlier charge covers.

    Args:
        number: row, from 1.
        time: UTC, ISO 8601.
        session: session id, 32 bytes.
        round_index: from 0.
        owners: names of the owners whose contributions are in the release.
    """

    number: int
    time: str
    session: bytes
    round_index: int
    owners: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NoiseRecord:
    """A charged session got noise of the compute parties' pools; nobody else may get it again.

    Args:
        number: row, from 1.
        time: UTC, ISO 8601.
        session: session id, 32 bytes.
        bank: id of the pools, 16 bytes.
        start: first position.
        end: first position after the noise.
    """

    number: int
    time: str
    session: bytes
    bank: bytes
    start: int
    end: int


Entry = Charge | ReleaseRecord | NoiseRecord
"""What a row may say."""


def charge_text(task_digest: bytes, session: bytes, task_name: str, cost: TaskCost, *, releases: int) -> str:
    """Write a charge of now in canonical form."""
    gaussian = cost.gaussian
    return _canonical(
        kind="charge",
        task=task_digest.hex(),
        session=session.hex(),
        task_name=task_name,
        epsilon=cost.budget.epsilon,
        delta=cost.budget.delta,
        releases=releases,
        **({} if gaussian is None else {"mu_squared": gaussian.mu_squared, "distance": gaussian.distance}),
    )


def release_text(session: bytes, round_index: int, owners: tuple[str, ...]) -> str:
    """Write a release of now in canonical form."""
    return _canonical(kind="release", session=session.hex(), round=round_index, owners=owners)


def noise_text(session: bytes, bank: bytes, start: int, end: int) -> str:
    """Write a session's noise in canonical form."""
    return _canonical(kind="noise", session=session.hex(), bank=bank.hex(), start=start, end=end)


def parse_row(number: int, text: str) -> Entry:
    """Read a row whose hash was found to be right."""
    content = json.loads(text)
    session = bytes.fromhex(content["session"])
    if content["kind"] == "noise":
        return NoiseRecord(
            number=number,
            time=content["time"],
            session=session,
            bank=bytes.fromhex(content["bank"]),
            start=content["start"],
            end=content["end"],
        )
    if content["kind"] == "release":
        return ReleaseRecord(
            number=number,
            time=content["time"],
            session=session,
            round_index=content["round"],
            owners=tuple(content["owners"]),
        )
    return Charge(
        number=number,
        time=content["time"],
        task_digest=bytes.fromhex(content["task"]),
        session=session,
        task_name=content["task_name"],
        cost=PrivacyBudget(epsilon=content["epsilon"], delta=content["delta"]),
        releases=content["releases"],
        gaussian=(
            GaussianCost(mu_squared=content["mu_squared"], distance=content["distance"])
            if "mu_squared" in content
            else None
        ),
    )


def find_charge(entries: Sequence[Entry], session: bytes) -> Charge | None:
    """Return the charge of a session."""
    return next((entry for entry in entries if isinstance(entry, Charge) and entry.session == session), None)


def find_releases(entries: Sequence[Entry], session: bytes) -> dict[int, ReleaseRecord]:
    """Return the releases of a session by their round."""
    releases = (entry for entry in entries if isinstance(entry, ReleaseRecord))
    return {release.round_index: release for release in releases if release.session == session}


def find_noise(entries: Sequence[Entry], bank: bytes) -> list[NoiseRecord]:
    """Return which noise sessions got of a bank."""
    return [entry for entry in entries if isinstance(entry, NoiseRecord) and entry.bank == bank]


def chain_hash(previous: bytes, number: int, text: str) -> bytes:
    """Compute a row's hash: SHA-256("mpcdp/ledger/1" || 0 || previous row's hash || number as 8 bytes || text)."""
    return hashlib.sha256(b"mpcdp/ledger/1\0" + previous + number.to_bytes(8, "big") + text.encode()).digest()


def _canonical(**content: Any) -> str:
    content["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
