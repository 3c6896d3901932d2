"""Everything processes say to each other, as plain values; `codec` puts them on the wire.

Every message of a session carries its `SessionRef`; a process that holds another task or takes part in another session
refuses it. Vectors travel as little-endian int64 bytes. No message has a field for a contribution, a noise vector or a
hash of either: the only vectors are one party's share (`Upload`), a release (`Release`) and a model (`SessionEvent`).
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mpcdp.secret_sharing.shares import RingVector

__all__ = [
    "Aborted",
    "Aggregate",
    "Attendance",
    "DealRequest",
    "Enrolment",
    "Finished",
    "Release",
    "RoundStarted",
    "SessionEvent",
    "SessionRef",
    "SessionStarted",
    "Upload",
]


@dataclass(frozen=True)
class SessionRef:
    """Which session of which task a message belongs to.

    Args:
        task_digest: SHA-256 of the task's canonical form, 32 bytes.
        session: single-use id, 32 bytes drawn by the coordinator.
    """

    task_digest: bytes
    session: bytes

    def __post_init__(self) -> None:
        for name in ("task_digest", "session"):
            if len(getattr(self, name)) != 32:
                raise ValueError(f"{name} has 32 bytes, not {len(getattr(self, name))}")


# -- coordinator -> compute parties and dealer ---------------------------------------------------------------------


@dataclass(frozen=True)
class Aggregate:
    """Ask a compute party to add up one round's contributions, add noise ``round_index`` and reveal the result.

    Args:
        model_digest: SHA-256 of the model that owners were sent, 32 bytes.
        owners: owners the coordinator expects; the last party stops waiting once all of them have uploaded.
    """

    ref: SessionRef
    round_index: int
    model_digest: bytes
    owners: tuple[str, ...]


@dataclass(frozen=True)
class Release:
    """The answer: what the parties revealed.

    Args:
        values: shape (d,), the noised sum in ring units.
        owners: names of the owners whose contributions are in it, in the task's order.
    """

    values: RingVector
    owners: tuple[str, ...]


# -- owner -> compute parties --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Enrolment:
    """An owner joins a session at one compute party.

    Args:
        key: 256-bit key of this party's masks; empty for the last party, which holds none.
    """

    ref: SessionRef
    owner: str
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Upload:
    """An owner's share for the last party: encoded contribution minus all masks.

    Args:
        nonce: `mpcdp.secret_sharing.additive.mask_nonce` of the vector, 32 bytes, relayed to the other parties.
        values: shape (d,).
    """

    ref: SessionRef
    owner: str
    round_index: int
    nonce: bytes
    values: RingVector = field(repr=False)


# -- owner <- coordinator ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attendance:
    """An owner is ready: its task, its table and its ledger have been checked."""

    task_digest: bytes
    owner: str
    record_count: int


@dataclass(frozen=True)
class SessionStarted:
    """The compute parties opened a session; owners charge their ledgers and enrol."""

    ref: SessionRef


@dataclass(frozen=True)
class RoundStarted:
    """The model for which contributions to ``round_index`` are wanted, shape (d,)."""

    ref: SessionRef
    round_index: int
    model: NDArray[np.float64]


@dataclass(frozen=True)
class Finished:
    """The trained model, shape (d,), and the owners of each round."""

    ref: SessionRef
    model: NDArray[np.float64]
    owners: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Aborted:
    """The session ended without a model.

    Args:
        reason: one sentence and a cure; never a value from a record.
    """

    reason: str


SessionEvent = SessionStarted | RoundStarted | Finished | Aborted


# -- compute party -> dealer ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DealRequest:
    """A compute party asks for one batch of correlated randomness.

    Args:
        party: name of the compute party.
        nonce: 32 fresh random bytes; the batch's seeds depend on every party's nonce, so that neither a restored
            dealer nor a restored party can bring old correlations back.
        batch: what the batch is for, e.g. ``"noise"``; each batch name is dealt once per session.
        schedule_digest: SHA-256 of the sequence of `CorrelationRequest` both sides expect.
    """

    ref: SessionRef
    party: str
    nonce: bytes
    batch: str
    schedule_digest: bytes
