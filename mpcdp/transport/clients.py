"""What a process calls others with: each method serializes, calls with its deadline, and reads the answer strictly."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from mpcdp.transport import codec
from mpcdp.transport.channel import Limits, Member
from mpcdp.transport.mesh import Stream
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
from mpcdp.transport.reader import Reader

__all__ = ["Caller", "ComputePartyClient", "CoordinatorClient", "DealerClient"]


class Caller(Protocol):
    """A process's way out."""

    @property
    def limits(self) -> Limits: ...

    def call(self, peer: Member, method: str, messages: Iterable[bytes], seconds: float) -> Stream:
        """Start a call and return its answer as it arrives."""
        ...


class _Client:
    def __init__(self, caller: Caller, peer: Member) -> None:
        self._caller = caller
        self._peer = peer
        self._limits = caller.limits

    def _call(self, method: str, messages: Iterable[bytes], seconds: float) -> tuple[Stream, Reader]:
        stream = self._caller.call(self._peer, method, messages, seconds)
        return stream, Reader(self._peer.name, stream, self._limits)

    def _do(self, method: str, messages: Iterable[bytes], seconds: float) -> None:
        stream, reader = self._call(method, messages, seconds)
        try:
            codec.read_done(reader)
        finally:
            stream.cancel()


class CoordinatorClient(_Client):
    """The coordinator, seen from an owner (fits `mpcdp.transport.channel.CoordinatorService`)."""

    def attend(self, caller: str, attendance: Attendance) -> Iterator[SessionEvent]:
        """Join now; closing the iterator leaves. Errors are raised by the iterator."""
        return _until_closed(
            *self._call("Coordinator/Attend", [codec.write_attendance(attendance)], self._limits.session_seconds)
        )

    def leave(self, caller: str, attendance: Attendance) -> None:
        """Say that the model is there."""
        self._do("Coordinator/Leave", [codec.write_attendance(attendance)], self._limits.call_seconds)


def _until_closed(stream: Stream, reader: Reader) -> Iterator[SessionEvent]:
    try:
        yield from codec.read_events(reader)
    finally:
        stream.cancel()


class ComputePartyClient(_Client):
    """A compute party, seen from an owner or the coordinator (fits `mpcdp.transport.channel.ComputePartyService`)."""

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Return once the party is prepared."""
        self._do("ComputeParty/OpenSession", [codec.write_open_session(ref)], self._limits.prepare_seconds)

    def enrol(self, caller: str, enrolment: Enrolment) -> NoiseUse | None:
        """Send a mask key, 32 bytes."""
        stream, reader = self._call("ComputeParty/Enrol", [codec.write_enrolment(enrolment)], self._limits.call_seconds)
        try:
            return codec.read_enrolled(reader)
        finally:
            stream.cancel()

    def upload(self, caller: str, upload: Upload) -> None:
        """Send a share, 8 d bytes; return once the round is bound."""
        self._do("ComputeParty/Upload", codec.write_upload(upload), self._limits.message_seconds)

    def outcome(self, caller: str, ref: SessionRef) -> Outcome:
        """Ask what was released; the answer has 32 bytes."""
        stream, reader = self._call(
            "ComputeParty/Outcome", [codec.write_outcome_request(ref)], self._limits.call_seconds
        )
        try:
            return codec.read_outcome(reader)
        finally:
            stream.cancel()

    def aggregate(self, caller: str, request: Aggregate) -> Release:
        """Have a round revealed; the answer has 8 d bytes."""
        stream, reader = self._call(
            "ComputeParty/Aggregate", [codec.write_aggregate(request)], self._limits.message_seconds
        )
        try:
            return codec.read_release(reader)
        finally:
            stream.cancel()

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session."""
        self._do("ComputeParty/CloseSession", [codec.write_close_session(ref, reason)], self._limits.call_seconds)


class DealerClient(_Client):
    """The dealer, seen from a compute party or the coordinator (fits `mpcdp.transport.channel.DealerService`)."""

    def open_session(self, caller: str, ref: SessionRef) -> None:
        """Bind the dealer to a session."""
        self._do("Dealer/OpenSession", [codec.write_open_session(ref)], self._limits.prepare_seconds)

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        """Wait for the seed; the corrections arrive as they are consumed, all within ``prepare_seconds``."""
        stream, reader = self._call("Dealer/Deal", [codec.write_deal_request(request)], self._limits.prepare_seconds)
        try:
            return codec.read_deal_seed(reader), _corrections(stream, reader)
        except BaseException:
            stream.cancel()
            raise

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None:
        """End the session."""
        self._do("Dealer/CloseSession", [codec.write_close_session(ref, reason)], self._limits.call_seconds)


def _corrections(stream: Stream, reader: Reader) -> Iterator[bytes]:
    try:
        yield from codec.read_corrections(reader)
    finally:
        stream.cancel()
