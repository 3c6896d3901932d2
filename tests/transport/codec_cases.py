"""One example of every message, how it is written and how it is read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from network_worlds import LIMITS, REF

from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport import codec, frames
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
    SessionStarted,
    Upload,
)
from mpcdp.transport.reader import Reader

__all__ = ["CASES", "Case", "equal", "reader_of"]

_DIGEST = bytes(range(100, 132))
_VALUES = np.array([0, 1, -1, 2**63 - 1, -(2**63)], dtype=np.int64)
_HISTORY = bytes(range(60, 92))
_OWNERS = OwnerSet.of([0, 1, 11])


def equal(one: object, other: object) -> bool:
    """Compare messages bit by bit, arrays included."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if is_dataclass(one) and not isinstance(one, type):
        return type(one) is type(other) and all(
            equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one)
        )
    return one == other


def reader_of(sender: str, messages: Iterable[bytes]) -> Reader:
    """Return a reader with the limits of all tests."""
    return Reader(sender, messages, LIMITS)


@dataclass(frozen=True)
class Case:
    """A message.

    Args:
        sender: who sends it.
        value: what is sent.
        write: to messages.
        read: from a reader.
    """

    sender: str
    value: Any
    write: Callable[[Any], Iterable[bytes]]
    read: Callable[[Reader], Any]


def _one(write: Callable[..., bytes]) -> Callable[[Any], Iterable[bytes]]:
    return lambda value: [write(value)]


def _read_deal(reader: Reader) -> tuple[bytes, list[bytes]]:
    return codec.read_deal_seed(reader), list(codec.read_corrections(reader))


def _write_mesh(value: Any) -> Iterable[bytes]:
    yield frames.write_hello("compute-1", value[0])
    for payload in value[1:-1]:
        yield from frames.write_payload(payload.operation, payload.sequence, payload.content)
    yield frames.write_goodbye(value[-1].reason)


CASES: dict[str, Case] = {
    "greeting": Case(
        "owner-0",
        Greeting("owner-0", _DIGEST, "0.1.0", 1_714_564_800.123),
        _one(codec.write_greeting),
        codec.read_greeting,
    ),
    "open_session": Case("coordinator", REF, _one(codec.write_open_session), codec.read_open_session),
    "close_session": Case(
        "coordinator", (REF, None), lambda value: [codec.write_close_session(*value)], codec.read_close_session
    ),
    "close_session_reason": Case(
        "coordinator",
        (REF, "owner-1 left: start it again"),
        lambda value: [codec.write_close_session(*value)],
        codec.read_close_session,
    ),
    "enrolment": Case("owner-0", Enrolment(REF, "owner-0", _DIGEST), _one(codec.write_enrolment), codec.read_enrolment),
    "enrolment_last_party": Case(
        "owner-0", Enrolment(REF, "owner-0", b""), _one(codec.write_enrolment), codec.read_enrolment
    ),
    "enrolled": Case("compute-0", NoiseUse(_DIGEST[:16], 1024, 2**40), _one(codec.write_enrolled), codec.read_enrolled),
    "enrolled_without_pool": Case("compute-0", None, _one(codec.write_enrolled), codec.read_enrolled),
    "upload": Case(
        "owner-0", Upload(REF, "owner-0", 3, _HISTORY, _DIGEST, _VALUES), codec.write_upload, codec.read_upload
    ),
    "aggregate": Case(
        "coordinator",
        Aggregate(REF, 3, _OWNERS),
        _one(codec.write_aggregate),
        codec.read_aggregate,
    ),
    "release": Case("compute-0", Release(_VALUES, _OWNERS), codec.write_release, codec.read_release),
    "outcome_request": Case("owner-0", REF, _one(codec.write_outcome_request), codec.read_outcome_request),
    "outcome": Case("compute-0", Outcome(3, _DIGEST), _one(codec.write_outcome), codec.read_outcome),
    "deal_request": Case(
        "compute-0",
        DealRequest(REF, "compute-0", _DIGEST, "noise", 70_000, bytes(reversed(_DIGEST))),
        _one(codec.write_deal_request),
        codec.read_deal_request,
    ),
    "deal": Case(
        "dealer", (_DIGEST, [b"12345678" * 3, b"87654321"]), lambda value: codec.write_deal(*value), _read_deal
    ),
    "attendance": Case(
        "owner-0", Attendance(_DIGEST, "owner-0", 2**40), _one(codec.write_attendance), codec.read_attendance
    ),
    "events": Case(
        "coordinator",
        [
            SessionStarted(REF),
            Released(REF, 0, Release(_VALUES[:2].copy(), OwnerSet())),
            RoundStarted(REF, 1, None),
            RoundStarted(REF, 2, Release(_VALUES, _OWNERS)),
            Finished(REF, Release(_VALUES[::-1].copy(), _OWNERS)),
        ],
        codec.write_events,
        lambda reader: list(codec.read_events(reader)),
    ),
    "events_aborted": Case(
        "coordinator",
        [SessionStarted(REF), Aborted("compute-1: the connection broke: see its log")],
        codec.write_events,
        lambda reader: list(codec.read_events(reader)),
    ),
    "mesh": Case(
        "compute-1",
        [
            frames.Hello(REF, ("compute-0", "compute-1")),
            frames.Payload("and", 0, b"\x00\xff" * 20),
            frames.Payload("and", 1, b""),
            frames.Goodbye(None),
        ],
        _write_mesh,
        lambda reader: list(frames.read_frames(reader)),
    ),
    "mesh_failed": Case(
        "compute-1",
        [frames.Hello(REF, ("compute-0", "compute-1")), frames.Goodbye("compute-0: sent nonsense")],
        _write_mesh,
        lambda reader: list(frames.read_frames(reader)),
    ),
}
"""By name; `tests/vectors/codec/<name>.json` holds the bytes."""
