"""Messages to bytes and back: `write_*` serializes, `read_*` checks every field.

Whatever the bytes are, reading gives a valid message or `ProtocolError` (`IdentityError` for a false name).
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mpcdp.pb import mpc_pb2, session_pb2, share_pb2, types_pb2
from mpcdp.transport.messages import (
    Aborted,
    Aggregate,
    Attendance,
    DealRequest,
    Enrolment,
    Finished,
    Release,
    RoundStarted,
    SessionEvent,
    SessionRef,
    SessionStarted,
    Upload,
)
from mpcdp.transport.reader import CHUNK_BYTES, Reader, printable

__all__ = [
    "pieces",
    "read_aggregate",
    "read_attendance",
    "read_close_session",
    "read_corrections",
    "read_deal_request",
    "read_deal_seed",
    "read_done",
    "read_enrolment",
    "read_events",
    "read_greeting",
    "read_open_session",
    "read_release",
    "read_upload",
    "write_aggregate",
    "write_attendance",
    "write_close_session",
    "write_deal",
    "write_deal_request",
    "write_done",
    "write_enrolment",
    "write_events",
    "write_greeting",
    "write_open_session",
    "write_ref",
    "write_release",
    "write_upload",
]

_PROTOCOL = 1
_KEY_BYTES = 32
_DIGEST_BYTES = 32


def pieces(data: bytes | memoryview) -> Iterator[bytes]:
    """Cut bytes into copies of at most `CHUNK_BYTES`; no bytes give no piece."""
    if isinstance(data, bytes) and 0 < len(data) <= CHUNK_BYTES:
        yield data
        return
    view = memoryview(data).cast("B") if len(data) else memoryview(b"")
    for start in range(0, len(view), CHUNK_BYTES):
        yield bytes(view[start : start + CHUNK_BYTES])


def _vector_pieces(vector: NDArray[np.generic], dtype: str) -> Iterator[bytes]:
    if vector.ndim != 1 or not vector.size or vector.dtype != np.dtype(dtype):
        raise ValueError(f"a vector has one dimension and type {dtype}, not {vector.dtype} of shape {vector.shape}")
    return pieces(np.ascontiguousarray(vector, dtype=dtype).data.cast("B"))


def write_ref(ref: SessionRef) -> types_pb2.SessionRef:
    """Return the wire form of a reference, to be put into a message."""
    return types_pb2.SessionRef(task_digest=ref.task_digest, session=ref.session)


# -- any process ---------------------------------------------------------------------------------------------------


def write_greeting(name: str) -> bytes:
    """Serialize who is there."""
    return types_pb2.Greeting(protocol=_PROTOCOL, name=name).SerializeToString()


def read_greeting(reader: Reader) -> None:
    """Check that the peer speaks this protocol and is who its certificate says."""
    greeting = reader.single(types_pb2.Greeting)
    if greeting.protocol != _PROTOCOL:
        raise reader.refuse(
            "protocol", f"has version {greeting.protocol}, not {_PROTOCOL}: run the same version of mpcdp everywhere"
        )
    reader.own_name(greeting.name, "name")


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


def write_upload(upload: Upload) -> Iterator[bytes]:
    """Serialize an upload: the header, then 8 d bytes in chunks."""
    chunks = _vector_pieces(upload.values, "<i8")
    header = share_pb2.UploadHeader(
        ref=write_ref(upload.ref),
        owner=upload.owner,
        round_index=upload.round_index,
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
    values = reader.vector(share_pb2.UploadPart, reader.dimension(header.dimension), "<i8")
    reader.finish()
    return Upload(ref=ref, owner=owner, round_index=header.round_index, nonce=nonce, values=values.view(np.int64))


# -- coordinator and compute party ---------------------------------------------------------------------------------


def write_aggregate(request: Aggregate) -> bytes:
    """Serialize the request for a round."""
    return mpc_pb2.Aggregate(
        ref=write_ref(request.ref),
        round_index=request.round_index,
        model_digest=request.model_digest,
        owners=request.owners,
    ).SerializeToString()


def read_aggregate(reader: Reader) -> Aggregate:
    """Read the request for a round."""
    message = reader.single(mpc_pb2.Aggregate)
    return Aggregate(
        ref=reader.ref(message.ref),
        round_index=message.round_index,
        model_digest=reader.exactly(_DIGEST_BYTES, message.model_digest, "model_digest"),
        owners=reader.names(message.owners, "owners"),
    )


def write_release(release: Release) -> Iterator[bytes]:
    """Serialize a release: the header, then 8 d bytes in chunks."""
    chunks = _vector_pieces(release.values, "<i8")
    header = mpc_pb2.ReleaseHeader(dimension=release.values.shape[0], owners=release.owners)
    first = mpc_pb2.ReleasePart(header=header).SerializeToString()
    return chain((first,), (mpc_pb2.ReleasePart(chunk=chunk).SerializeToString() for chunk in chunks))


def read_release(reader: Reader) -> Release:
    """Read a release."""
    part = reader.required(mpc_pb2.ReleasePart)
    if part.WhichOneof("part") != "header":
        raise reader.refuse("header", "is missing")
    owners = reader.names(part.header.owners, "owners")
    values = reader.vector(mpc_pb2.ReleasePart, reader.dimension(part.header.dimension), "<i8")
    reader.finish()
    return Release(values=values.view(np.int64), owners=owners)


# -- compute party and dealer --------------------------------------------------------------------------------------


def write_deal_request(request: DealRequest) -> bytes:
    """Serialize the request for a batch."""
    return mpc_pb2.DealRequest(
        ref=write_ref(request.ref),
        party=request.party,
        nonce=request.nonce,
        batch=request.batch,
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
    """Serialize a session's events as they come, models in chunks."""
    return (part.SerializeToString() for event in events for part in _event_parts(event))


def _event_parts(event: SessionEvent) -> Iterator[session_pb2.EventPart]:
    match event:
        case SessionStarted(ref=ref):
            yield session_pb2.EventPart(started=session_pb2.SessionStarted(ref=write_ref(ref)))
        case RoundStarted(ref=ref, round_index=index, model=model):
            started = session_pb2.RoundStarted(ref=write_ref(ref), round_index=index, dimension=model.shape[0])
            yield session_pb2.EventPart(round=started)
            yield from (session_pb2.EventPart(chunk=chunk) for chunk in _vector_pieces(model, "<f8"))
        case Finished(ref=ref, model=model, owners=owners):
            finished = session_pb2.Finished(ref=write_ref(ref), dimension=model.shape[0], rounds=len(owners))
            yield session_pb2.EventPart(finished=finished)
            yield from (session_pb2.EventPart(chunk=chunk) for chunk in _vector_pieces(model, "<f8"))
            yield from (session_pb2.EventPart(owners=session_pb2.OwnerSet(names=names)) for names in owners)
        case Aborted(reason=reason):
            yield session_pb2.EventPart(aborted=session_pb2.Aborted(reason=printable(reason)))


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
        case "round":
            ref, model = reader.ref(part.round.ref), _read_model(reader, part.round.dimension)
            return RoundStarted(ref=ref, round_index=part.round.round_index, model=model)
        case "finished":
            ref, model = reader.ref(part.finished.ref), _read_model(reader, part.finished.dimension)
            owners = tuple(_read_owner_set(reader) for _ in range(part.finished.rounds))
            return Finished(ref=ref, model=model, owners=owners)
        case "aborted":
            return Aborted(reason=printable(part.aborted.reason))
        case _:
            raise reader.refuse("event", "is of no known kind: run the same version of mpcdp everywhere")


def _read_model(reader: Reader, dimension: int) -> NDArray[np.float64]:
    model = reader.vector(session_pb2.EventPart, reader.dimension(dimension), "<f8").view(np.float64)
    if not np.isfinite(model).all():
        raise reader.refuse("model", "has a coordinate that is not a finite number")
    return model


def _read_owner_set(reader: Reader) -> tuple[str, ...]:
    part = reader.required(session_pb2.EventPart)
    if part.WhichOneof("part") != "owners":
        raise reader.refuse("owners", "are missing")
    return reader.names(part.owners.names, "owners")
