"""Everything processes say to each other, as plain values; `codec` puts them on the wire.

Every message of a session carries its `SessionRef`; a process that holds another task or takes part in another session
refuses it, whether it stands in the message itself or in the call or stream that the message answers or continues.
Vectors travel as little-endian int64 bytes. No message has a field for a contribution, a noise vector or a hash of
either: the only vectors are one party's share (`Upload`) and releases (`Release`).
"""

from dataclasses import dataclass, field

from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.secret_sharing.shares import RingVector

__all__ = [
    "Aborted",
    "Aggregate",
    "Attendance",
    "DealRequest",
    "Enrolment",
    "Finished",
    "Greeting",
    "NoiseUse",
    "Outcome",
    "Release",
    "Released",
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


# -- any process ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Greeting:
    """Who is there, before anything else is said.

    Args:
        name: of the sender in the task.
        task_digest: of the task it holds, 32 bytes.
        version: of mpcdp, for people.
        time: its clock, seconds since 1970 UTC, to the millisecond.
    """

    name: str
    task_digest: bytes
    version: str
    time: float


# -- coordinator -> compute parties and dealer ---------------------------------------------------------------------


@dataclass(frozen=True)
class Aggregate:
    """Ask a compute party to add up one round's contributions, add noise ``round_index`` and reveal the result.

    Args:
        owners: owners the coordinator expects; the last party stops waiting once all of them have uploaded.
    """

    ref: SessionRef
    round_index: int
    owners: OwnerSet


@dataclass(frozen=True)
class Release:
    """The answer: what the parties revealed.

    Args:
        values: shape (d,), the noised sum in ring units.
        owners: the owners whose contributions are in it.
    """

    values: RingVector
    owners: OwnerSet


# -- owner -> compute parties --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a compute party says a session has released so far.

    Args:
        rounds: number of releases.
        history: digest of all of them and of their owners, 32 bytes.
    """

    rounds: int
    history: bytes


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
class NoiseUse:
    """Which noise a session gets: owners keep it in their ledgers, so that it never serves another session.

    Args:
        bank: id of the compute parties' noise pools, 16 bytes.
        start: first position in them.
        end: first position after the session's.
    """

    bank: bytes
    start: int
    end: int


@dataclass(frozen=True)
class Upload:
    """An owner's share for the last party: encoded contribution minus all masks.

    Args:
        history: digest of the releases that the contribution was computed after, 32 bytes; the parties compare it with
            what they released.
        nonce: `mpcdp.secret_sharing.additive.mask_nonce` of the vector, 32 bytes, relayed to the other parties.
        values: shape (d,).
    """

    ref: SessionRef
    owner: str
    round_index: int
    history: bytes
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
class Released:
    """What an earlier round released: an owner that attends after it was revealed is told all of them, in order."""

    ref: SessionRef
    round_index: int
    release: Release


@dataclass(frozen=True)
class RoundStarted:
    """Contributions to a round are wanted.

    Args:
        round_index: the round.
        previous: what the round before released; None in the first round, and when `Released` told it already.
    """

    ref: SessionRef
    round_index: int
    previous: Release | None


@dataclass(frozen=True)
class Finished:
    """All rounds were released.

    Args:
        last: what the last round released; None when `Released` told it already.
    """

    ref: SessionRef
    last: Release | None


@dataclass(frozen=True)
class Aborted:
    """The session ended without a model.

    Args:
        reason: one sentence and a cure; never a value from a record.
    """

    reason: str


SessionEvent = SessionStarted | Released | RoundStarted | Finished | Aborted


# -- compute party -> dealer ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DealRequest:
    """A compute party asks for one batch of correlated randomness.

    Args:
        party: name of the compute party.
        nonce: 32 fresh random bytes; the batch's seeds depend on every party's nonce, so that neither a restored
            dealer nor a restored party can bring old correlations back.
        batch: what the batch is for, e.g. ``"noise"``; each batch name is dealt once per session.
        samples: how many noise samples it is for, or how many owners are checked with it; the same at all parties.
        schedule_digest: SHA-256 of the sequence of `CorrelationRequest` both sides expect.
    """

    ref: SessionRef
    party: str
    nonce: bytes
    batch: str
    samples: int
    schedule_digest: bytes
