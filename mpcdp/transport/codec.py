"""Messages to bytes and back: `write_*` serializes, `read_*` checks every field.

Whatever the bytes are, reading gives a valid message or `ProtocolError` (`IdentityError` for a false name).
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np

from mpcdp.pb import mpc_pb2, session_pb2, share_pb2, types_pb2
from mpcdp.secret_sharing.shares import RingVector
from mpcdp.transport.messages import (
    Aborted,
    Aggregate,
    Attendance,
    DealRequest,
    Enrolment,
    Finished,
    Greeting,
    NoiseUse,
    Outcome,
    Release,
    Released,
    RoundStarted,
    SessionEvent,
    SessionRef,
    SessionStarted,
    Upload,
)
from mpcdp.transport.reader import CHUNK_BYTES, Reader, printable

__all__ = [
    "PROTOCOL",
    "pieces",
    "read_aggregate",
    "read_attendance",
    "read_close_session",
    "read_corrections",
    "read_deal_request",
    "read_deal_seed",
    "read_done",
    "read_enrolled",
    "read_enrolment",
    "read_events",
    "read_greeting",
    "read_open_session",
    "read_outcome",
    "read_outcome_request",
    "read_release",
    "read_upload",
    "write_aggregate",
    "write_attendance",
    "write_close_session",
    "write_deal",
    "write_deal_request",
    "write_done",
    "write_enrolled",
    "write_enrolment",
    "write_events",
    "write_greeting",
    "write_open_session",
    "write_outcome",
    "write_outcome_request",
    "write_ref",
    "write_release",
    "write_upload",
]

PROTOCOL = 2
"""Version of what processes say to each other."""

_VERSION_CHARACTERS = 64
_KEY_BYTES = 32
_DIGEST_BYTES = 32
_BANK_BYTES = 16


def pieces(data: bytes | memoryview) -> Iterator[bytes]:
    """Cut bytes into copies of at most `CHUNK_BYTES`; no bytes give no piece."""
    if isinstance(data, bytes) and 0 < len(data) <= CHUNK_BYTES:
        yield data
        return
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    for start in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])


def _vector_pieces(vector: RingVector) -> Iterator[bytes]:
    if vector.ndim != 1 or not vector.size or vector.dtype != np.int64:
        raise ValueError(f"a vector has one dimension and type int64, not {vector.dtype} of shape {vector.shape}")
    return pieces(np.ascontiguousarray(vector, dtype="<i8").data.cast("B"))


def write_ref(ref: SessionRef) -> types_pb2.SessionRef:
    """Return the wire form of a reference, to be put into a message."""
    return types_pb2.SessionRef(task_digest=ref.task_digest, session=ref.session)


# -- any process ---------------------------------------------------------------------------------------------------


def write_greeting(greeting: Greeting) -> bytes:
    """Serialize who is there."""
    return types_pb2.Greeting(
        protocol=PROTOCOL,
        name=greeting.name,
        task_digest=greeting.task_digest,
        version=greeting.version,
        time=round(1000 * greeting.time),
    ).SerializeToString()


def read_greeting(reader: Reader) -> Greeting:
    """Read who is there: a peer that speaks this protocol and is who its certificate says."""
    greeting = reader.single(types_pb2.Greeting)
    if greeting.protocol != PROTOCOL:
        raise reader.refuse(
            "protocol", f"has version {greeting.protocol}, not {PROTOCOL}: run the same version of mpcdp everywhere"
        )
    if len(greeting.version) > _VERSION_CHARACTERS:
        raise reader.refuse("version", f"has more than {_VERSION_CHARACTERS} characters")
    return Greeting(
        name=reader.own_name(greeting.name, "name"),
        task_digest=reader.exactly(_DIGEST_BYTES, greeting.task_digest, "task_digest"),
        version=printable(greeting.version),
        time=greeting.time / 1000,
    )


def write_done() -> bytes:
    """Serialize an answer that says nothing but that all went well."""
    return types_pb2.Done().SerializeToString()


def read_done(reader: Reader) -> None:
    """Read such an answer."""
    reader.single(types_pb2.Done)


def write_open_session(ref: SessionRef) -> bytes:
    """Serialize the request to open a session."""
    return mpc_pb2.OpenSession(ref=write_ref(ref)).SerializeToString()


def read_open_session(reader: Reader) -> SessionRef:
    """Read the request to open a session."""
    return reader.ref(reader.single(mpc_pb2.OpenSession).ref)


def write_close_session(ref: SessionRef, reason: str | None) -> bytes:
    """Serialize the request to close a session."""
    message = mpc_pb2.CloseSession(ref=write_ref(ref))
    if reason is not None:
        message.reason = printable(reason)
    return message.SerializeToString()


def read_close_session(reader: Reader) -> tuple[SessionRef, str | None]:
    """Read the request to close a session, and the reason if it failed."""
    message = reader.single(mpc_pb2.CloseSession)
    return reader.ref(message.ref), printable(message.reason) if message.HasField("reason") else None


# -- owner to compute party ----------------------------------------------------------------------------------------


def write_enrolment(enrolment: Enrolment) -> bytes:
    """Serialize an enrolment."""
    return share_pb2.Enrolment(
        ref=write_ref(enrolment.ref), owner=enrolment.owner, key=enrolment.key
    ).SerializeToString()


def read_enrolment(reader: Reader) -> Enrolment:
    """Read an enrolment of the sender."""
    message = reader.single(share_pb2.Enrolment)
    owner = reader.own_name(message.owner, "owner")
    if len(message.key) not in (0, _KEY_BYTES):
        raise reader.refuse("key", f"has {len(message.key)} bytes, not {_KEY_BYTES} or 0")
    return Enrolment(ref=reader.ref(message.ref), owner=owner, key=message.key)


def write_enrolled(use: NoiseUse | None) -> bytes:
    """Serialize which noise the session gets, if the parties share one pool of it."""
    if use is None:
        return share_pb2.Enrolled().SerializeToString()
    return share_pb2.Enrolled(bank=use.bank, start=use.start, end=use.end).SerializeToString()


def read_enrolled(reader: Reader) -> NoiseUse | None:
    """Read which noise the session gets."""
    message = reader.single(share_pb2.Enrolled)
    if not message.bank and not message.start and not message.end:
        return None
    if not message.start < message.end < 2**62:
        raise reader.refuse("end", "is not the end of a range of positions")
    return NoiseUse(bank=reader.exactly(_BANK_BYTES, message.bank, "bank"), start=message.start, end=message.end)


def write_upload(upload: Upload) -> Iterator[bytes]:
    """Serialize an upload: the header, then 8 d bytes in chunks."""
    chunks = _vector_pieces(upload.values)
    header = share_pb2.UploadHeader(
        ref=write_ref(upload.ref),
        owner=upload.owner,
        round_index=upload.round_index,
        history=upload.history,
        nonce=upload.nonce,
        dimension=upload.values.shape[0],
    )
    first = share_pb2.UploadPart(header=header).SerializeToString()
    return chain((first,), (share_pb2.UploadPart(chunk=chunk).SerializeToString() for chunk in chunks))


def read_upload(reader: Reader) -> Upload:
    """Read an upload of the sender; its header is checked before its vector is read."""
    part = reader.required(share_pb2.UploadPart)
    if part.WhichOneof("part") != "header":
        raise reader.refuse("header", "is missing")
    header = part.header
    owner = reader.own_name(header.owner, "owner")
    ref = reader.ref(header.ref)
    nonce = reader.exactly(_DIGEST_BYTES, header.nonce, "nonce")
    history = reader.exactly(_DIGEST_BYTES, header.history, "history")
    values = reader.vector(share_pb2.UploadPart, reader.dimension(header.dimension), "<i8")
    reader.finish()
    return Upload(
        ref=ref,
        owner=owner,
        round_index=header.round_index,
        history=history,
        nonce=nonce,
        values=values.view(np.int64),
    )


def write_outcome_request(ref: SessionRef) -> bytes:
    """Serialize the question what was released."""
    return mpc_pb2.OutcomeRequest(ref=write_ref(ref)).SerializeToString()


def read_outcome_request(reader: Reader) -> SessionRef:
    """Read the question what was released."""
    return reader.ref(reader.single(mpc_pb2.OutcomeRequest).ref)


def write_outcome(outcome: Outcome) -> bytes:
    """Serialize what was released."""
    return mpc_pb2.Outcome(rounds=outcome.rounds, history=outcome.history).SerializeToString()


def read_outcome(reader: Reader) -> Outcome:
    """Read what was released."""
    message = reader.single(mpc_pb2.Outcome)
    return Outcome(rounds=message.rounds, history=reader.exactly(_DIGEST_BYTES, message.history, "history"))


# -- coordinator and compute party ---------------------------------------------------------------------------------


def write_aggregate(request: Aggregate) -> bytes:
    """Serialize the request for a round."""
    return mpc_pb2.Aggregate(
        ref=write_ref(request.ref),
        round_index=request.round_index,
        owners=request.owners.to_bytes(),
    ).SerializeToString()


def read_aggregate(reader: Reader) -> Aggregate:
    """Read the request for a round."""
    message = reader.single(mpc_pb2.Aggregate)
    return Aggregate(
        ref=reader.ref(message.ref),
        round_index=message.round_index,
        owners=reader.owner_set(message.owners, "owners"),
    )


def write_release(release: Release) -> Iterator[bytes]:
    """Serialize a release: the header, then 8 d bytes in chunks."""
    chunks = _vector_pieces(release.values)
    first = mpc_pb2.ReleasePart(header=_release_header(release)).SerializeToString()
    return chain((first,), (mpc_pb2.ReleasePart(chunk=chunk).SerializeToString() for chunk in chunks))


def _release_header(release: Release) -> types_pb2.ReleaseHeader:
    return types_pb2.ReleaseHeader(dimension=release.values.shape[0], owners=release.owners.to_bytes())


def read_release(reader: Reader) -> Release:
    """Read a release."""
    part = reader.required(mpc_pb2.ReleasePart)
    if part.WhichOneof("part") != "header":
        raise reader.refuse("header", "is missing")
    release = _read_release(reader, mpc_pb2.ReleasePart, part.header)
    reader.finish()
    return release


def _read_release(
    reader: Reader, kind: type[mpc_pb2.ReleasePart | session_pb2.EventPart], header: types_pb2.ReleaseHeader
) -> Release:
    owners = reader.owner_set(header.owners, "owners")
    values = reader.vector(kind, reader.dimension(header.dimension), "<i8")
    return Release(values=values.view(np.int64), owners=owners)


# -- compute party and dealer --------------------------------------------------------------------------------------


def write_deal_request(request: DealRequest) -> bytes:
    """Serialize the request for a batch."""
    return mpc_pb2.DealRequest(
        ref=write_ref(request.ref),
        party=request.party,
        nonce=request.nonce,
        batch=request.batch,
        samples=request.samples,
        schedule_digest=request.schedule_digest,
    ).SerializeToString()


def read_deal_request(reader: Reader) -> DealRequest:
    """Read the sender's request for a batch."""
    message = reader.single(mpc_pb2.DealRequest)
    return DealRequest(
        ref=reader.ref(message.ref),
        party=reader.own_name(message.party, "party"),
        nonce=reader.exactly(_KEY_BYTES, message.nonce, "nonce"),
        batch=reader.name(message.batch, "batch"),
        samples=message.samples,
        schedule_digest=reader.exactly(_DIGEST_BYTES, message.schedule_digest, "schedule_digest"),
    )


def write_deal(seed: bytes, corrections: Iterable[bytes]) -> Iterator[bytes]:
    """Serialize a batch: the seed, then the corrections as they are made; memory for one chunk only."""
    yield mpc_pb2.DealPart(seed=seed).SerializeToString()
    for block in corrections:
        for piece in pieces(block):
            yield mpc_pb2.DealPart(corrections=piece).SerializeToString()


def read_deal_seed(reader: Reader) -> bytes:
    """Read the beginning of a batch, 32 bytes; `read_corrections` reads the rest."""
    part = reader.required(mpc_pb2.DealPart)
    if part.WhichOneof("part") != "seed":
        raise reader.refuse("seed", "is missing")
    return reader.exactly(_KEY_BYTES, part.seed, "seed")


def read_corrections(reader: Reader) -> Iterator[bytes]:
    """Read the rest of a batch as it arrives."""
    while (part := reader.optional(mpc_pb2.DealPart)) is not None:
        if part.WhichOneof("part") != "corrections":
            raise reader.refuse("corrections", "are missing")
        if not 0 < len(part.corrections) <= CHUNK_BYTES:
            raise reader.refuse("corrections", f"have {len(part.corrections)} bytes, not 1 .. {CHUNK_BYTES}")
        yield part.corrections


# -- owner and coordinator -----------------------------------------------------------------------------------------


def write_attendance(attendance: Attendance) -> bytes:
    """Serialize an owner's attendance."""
    return session_pb2.Attendance(
        task_digest=attendance.task_digest, owner=attendance.owner, record_count=attendance.record_count
    ).SerializeToString()


def read_attendance(reader: Reader) -> Attendance:
    """Read the sender's attendance."""
    message = reader.single(session_pb2.Attendance)
    if not message.record_count:
        raise reader.refuse("record_count", "is 0: an owner has at least one record")
    return Attendance(
        task_digest=reader.exactly(_DIGEST_BYTES, message.task_digest, "task_digest"),
        owner=reader.own_name(message.owner, "owner"),
        record_count=message.record_count,
    )


def write_events(events: Iterable[SessionEvent]) -> Iterator[bytes]:
    """Serialize a session's events as they come, releases in chunks."""
    return (part.SerializeToString() for event in events for part in _event_parts(event))


def _event_parts(event: SessionEvent) -> Iterator[session_pb2.EventPart]:
    match event:
        case SessionStarted(ref=ref):
            yield session_pb2.EventPart(started=session_pb2.SessionStarted(ref=write_ref(ref)))
        case Released(ref=ref, round_index=index, release=release):
            header = _release_header(release)
            released = session_pb2.Released(ref=write_ref(ref), round_index=index, release=header)
            yield session_pb2.EventPart(released=released)
            yield from _release_chunks(release)
        case RoundStarted(ref=ref, round_index=index, previous=previous):
            started = session_pb2.RoundStarted(ref=write_ref(ref), round_index=index)
            if previous is not None:
                started.previous.CopyFrom(_release_header(previous))
            yield session_pb2.EventPart(round=started)
            yield from _release_chunks(previous)
        case Finished(ref=ref, last=last):
            finished = session_pb2.Finished(ref=write_ref(ref))
            if last is not None:
                finished.last.CopyFrom(_release_header(last))
            yield session_pb2.EventPart(finished=finished)
            yield from _release_chunks(last)
        case Aborted(reason=reason):
            yield session_pb2.EventPart(aborted=session_pb2.Aborted(reason=printable(reason)))


def _release_chunks(release: Release | None) -> Iterator[session_pb2.EventPart]:
    chunks = iter(()) if release is None else _vector_pieces(release.values)
    return (session_pb2.EventPart(chunk=chunk) for chunk in chunks)


def read_events(reader: Reader) -> Iterator[SessionEvent]:
    """Read a session's events as they come; nothing may follow the last one, and the last one must come."""
    event: SessionEvent | None = None
    while not isinstance(event, Finished | Aborted):
        event = _read_event(reader, reader.required(session_pb2.EventPart))
        yield event
    reader.finish()


def _read_event(reader: Reader, part: session_pb2.EventPart) -> SessionEvent:
    match part.WhichOneof("part"):
        case "started":
            return SessionStarted(ref=reader.ref(part.started.ref))
        case "released":
            ref, header = reader.ref(part.released.ref), part.released.release
            release = _read_release(reader, session_pb2.EventPart, header)
            return Released(ref=ref, round_index=part.released.round_index, release=release)
        case "round":
            ref = reader.ref(part.round.ref)
            has_previous = part.round.HasField("previous")
            previous = _read_release(reader, session_pb2.EventPart, part.round.previous) if has_previous else None
            return RoundStarted(ref=ref, round_index=part.round.round_index, previous=previous)
        case "finished":
            ref, has_last = reader.ref(part.finished.ref), part.finished.HasField("last")
            last = _read_release(reader, session_pb2.EventPart, part.finished.last) if has_last else None
            return Finished(ref=ref, last=last)
        case "aborted":
            return Aborted(reason=printable(part.aborted.reason))
        case _:
            raise reader.refuse("event", "is of no known kind: run the same version of mpcdp everywhere")
