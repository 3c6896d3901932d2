"""The services processes offer each other and the network that connects them; `grpc` and `in_process` implement it.

``caller`` is always the name, in the task, of the process whose certificate opened the connection. An implementation
refuses, before a service sees the message, a certificate that is not in the task, a caller whose role may not use the
method, and a message that claims to be from somebody else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from mpcdp.errors import MpcdpError
from mpcdp.transport.messages import (
    Aggregate,
    Attendance,
    DealRequest,
    Enrolment,
    NoiseUse,
    Outcome,
    Release,
    SessionEvent,
    SessionRef,
    Upload,
)

__all__ = [
    "ComputePartyService",
    "CoordinatorService",
    "DealerService",
    "Limits",
    "Member",
    "MessageMesh",
    "Network",
    "Role",
    "Services",
]

Role = Literal["owner", "compute", "dealer", "coordinator"]


@dataclass(frozen=True)
class Member:
    """A process of a task.

    Args:
        name: unique in the task.
        role: what it does.
        certificate: DNS name in the subject alternative name of its certificate; unique in the task.
    """

    name: str
    role: Role
    certificate: str


@dataclass(frozen=True)
class Limits:
    """Bounds on what a peer may send and on how long a call may last.

    Args:
        dimension: largest vector length d accepted.
        connect_seconds: deadline for reaching a peer for the first time, or again after it was lost.
        call_seconds: deadline of a call that is answered at once (enrol, outcome, close_session).
        prepare_seconds: deadline of a call during which noise is prepared (open_session, deal).
        message_seconds: deadline of one message between compute parties, of aggregate and of upload; contains an
            owner's time to contribute.
        session_seconds: deadline of a whole session (attend).
    """

    dimension: int
    connect_seconds: float
    call_seconds: float
    prepare_seconds: float
    message_seconds: float
    session_seconds: float


class CoordinatorService(Protocol):
    """What the coordinator answers."""

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        """Register an owner and yield the session's events until `Finished` or `Aborted`. Callers: owners.

        When the owner is gone, the iterator's ``close`` is called if it has one, from any thread, even while ``next``
        waits: an iterator that ends its wait then lets the coordinator know at once (a running generator cannot).
        After `Finished` the owner still compares what it was told with the compute parties' `outcome`, and then leaves.
        """
        ...

    def leave(self, caller: str, attendance: Attendance) -> None:
        """Take note that an owner has its model, or will never take it, and does not come back. Callers: owners."""
        ...


class ComputePartyService(Protocol):
    """What a compute party answers."""

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Take part in a session; return once its noise is prepared. Callers: the coordinator."""
        ...

    def enrol(self, caller: str, enrolment: Enrolment) -> NoiseUse | None:
        """Take an owner's mask key; the first one binds the task to this session for ever. Callers: owners.

        Returns:
            Which noise the session gets, None when every party samples its own.
        """
        ...

    def upload(self, caller: str, upload: Upload) -> None:
        """Take an owner's share of one round. Callers: owners. Only the last party accepts it.

        Answered once every party has bound the round to its owners on disk: the share need not be sent again, whatever
        happens. A caller that gets no answer sends the same bytes again.

        Raises:
            LateUpload: the round was bound without this owner.
        """
        ...

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        """Tell what the session has released so far. Callers: owners."""
        ...

    def aggregate(self, caller: str, request: Aggregate) -> Release:
        """Sum, noise and reveal one round together with the other parties. Callers: the coordinator."""
        ...

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session, successfully when ``reason`` is None. Callers: the coordinator."""
        ...


class DealerService(Protocol):
    """What the dealer answers."""

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Bind the dealer to a session. Callers: the coordinator."""
        ...

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        """Return this party's 32-byte seed and its correction bytes, streamed. Callers: compute parties."""
        ...

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session. Callers: the coordinator."""
        ...


Services = CoordinatorService | ComputePartyService | DealerService


class MessageMesh(Protocol):
    """Ordered messages between all compute parties of a session; fits `mpcdp.mpc.backend.Mesh`."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def exchange(self, operation: str, payload: bytes | memoryview) -> Sequence[bytes | memoryview]:
        """Send one payload to every peer and receive one from each; the result is indexed by rank. One round."""
        ...


class Network(Protocol):
    """One process's access to the others. Every call has a deadline; a peer's failure raises `PeerError`."""

    def serve(self, service: Services) -> AbstractContextManager[None]:
        """Answer requests to this process until the context ends; then finish those under way and stop listening."""
        ...

    def coordinator(self, name: str) -> CoordinatorService:
        """Return a client; its methods ignore ``caller`` (the certificate says who calls)."""
        ...

    def compute_party(self, name: str) -> ComputePartyService:
        """Return a client; its methods ignore ``caller``."""
        ...

    def dealer(self, name: str) -> DealerService:
        """Return a client; its methods ignore ``caller``."""
        ...

    def mesh(
        self, ref: SessionRef, names: Sequence[str], lost: Callable[[MpcdpError], None] = ...
    ) -> AbstractContextManager[MessageMesh]:
        """Connect this compute party, which must be serving, with the others.

        Leaving the context says goodbye and waits for theirs; leaving it with an error tells them why.

        Args:
            ref: the session; peers of another session are refused.
            names: all compute parties in rank order, this process among them.
            lost: told, on any thread, when a connection breaks, also while nobody waits for a message; must not wait.
        """
        ...

    def give_up(self, error: MpcdpError) -> None:
        """Wait for nobody and call nobody any more: who waits for a peer or a message, or calls, gets this error."""
        ...

    def bytes_sent(self) -> Mapping[str, int]:
        """Return payload bytes sent so far, by peer name."""
        ...
