"""Strict reading of what a peer sends: every field is checked, and an error names the field, never its content."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import DTypeLike, NDArray

from mpcdp.errors import IdentityError, ProtocolError
from mpcdp.pb import types_pb2
from mpcdp.secret_sharing.owner_set import OwnerSet
from mpcdp.transport.channel import Limits
from mpcdp.transport.messages import SessionRef

__all__ = ["CHUNK_BYTES", "MESSAGE_BYTES", "TEXT_CHARACTERS", "Reader", "printable"]

CHUNK_BYTES = 1 << 20
"""Largest piece of a vector in one message: four to five times faster than one message for all of it."""

MESSAGE_BYTES = 4 * CHUNK_BYTES + (1 << 16)
"""Largest message accepted; the longest we send are lists of owners."""

TEXT_CHARACTERS = 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # as in the task
_WORD_BYTES = 8

_M = TypeVar("_M", bound=Message)


def printable(text: str) -> str:
    """Make a text that is shown to people safe for terminals and logs: one line, no control characters, bounded."""
    return "".join(character if character.isprintable() else " " for character in text)[:TEXT_CHARACTERS]


class Reader:
    """The messages that one peer sends within one call, in order.

    Args:
        sender: name of the peer, as its certificate says.
        messages: serialized messages.
        limits: bounds on what is accepted.

    Raises:
        ProtocolError: by every method, when a message is not what the protocol allows here.
    """

    def __init__(self, sender: str, messages: Iterable[bytes], limits: Limits) -> None:
        self.sender = sender
        self._messages = iter(messages)
        self._limits = limits

    def refuse(self, field: str, expectation: str) -> ProtocolError:
        """Return (not raise) the error that names the sender, a field and what was expected of it."""
        return ProtocolError(f"{self.sender}: {field} {expectation}")

    # -- messages --------------------------------------------------------------------------------------------------

    def optional(self, kind: type[_M]) -> _M | None:
        """Read the next message, None at the end of the call."""
        data = self.optional_bytes(kind.__name__)
        return None if data is None else self.parse(kind, data)

    def optional_bytes(self, kind: str) -> bytes | None:
        """Read the next message without parsing it, None at the end of the call."""
        data = next(self._messages, None)
        if data is not None and len(data) > MESSAGE_BYTES:
            raise self.refuse(kind, f"has {len(data)} bytes, more than the {MESSAGE_BYTES} accepted")
        return data

    def parse(self, kind: type[_M], data: bytes) -> _M:
        """Parse a message."""
        try:
            return kind.FromString(data)
        except DecodeError:
            raise self.refuse(kind.__name__, "is malformed: run the same version of mpcdp everywhere") from None

    def required(self, kind: type[_M]) -> _M:
        """Read the next message; the call must not end here."""
        message = self.optional(kind)
        if message is None:
            raise self.refuse(kind.__name__, "is missing: the call ended too early")
        return message

    def finish(self) -> None:
        """Check that nothing follows."""
        if next(self._messages, None) is not None:
            raise self.refuse("call", "has more messages than expected")

    def single(self, kind: type[_M]) -> _M:
        """Read the one message of a call."""
        message = self.required(kind)
        self.finish()
        return message

    def vector(self, kind: type[_M], dimension: int, dtype: DTypeLike) -> NDArray[np.generic]:
        """Read the chunks of one vector, shape (dimension,); refused as soon as it has a byte too much.

        All chunks but the last are full: a vector in single bytes would cost a thousand times the work.

        Args:
            kind: message type with a ``oneof part`` that has a ``chunk``.
            dimension: number of coordinates, already checked.
            dtype: little-endian type of eight bytes.
        """
        vector = np.empty(dimension, dtype=dtype)
        target = vector.data.cast("B")
        filled = 0
        while filled < len(target):
            part = self.required(kind)
            if part.WhichOneof("part") != "chunk":
                raise self.refuse("chunk", f"is missing: {filled} of {len(target)} bytes have arrived")
            chunk: bytes = part.chunk  # type: ignore[attr-defined]
            if not 0 < len(chunk) <= CHUNK_BYTES:
                raise self.refuse("chunk", f"has {len(chunk)} bytes, not 1 .. {CHUNK_BYTES}")
            if filled + len(chunk) > len(target):
                raise self.refuse("chunk", f"exceeds the {len(target)} bytes of {dimension} coordinates")
            if filled % CHUNK_BYTES:
                raise self.refuse("chunk", f"follows one that is not full: all but the last have {CHUNK_BYTES} bytes")
            target[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        return vector.astype(vector.dtype.newbyteorder("="), copy=False)

    # -- fields ----------------------------------------------------------------------------------------------------

    def ref(self, value: types_pb2.SessionRef) -> SessionRef:
        """Check a reference to a session."""
        return SessionRef(
            task_digest=self.exactly(32, value.task_digest, "ref.task_digest"),
            session=self.exactly(32, value.session, "ref.session"),
        )

    def exactly(self, count: int, value: bytes, field: str) -> bytes:
        """Check the length of bytes."""
        if len(value) != count:
            raise self.refuse(field, f"has {len(value)} bytes, not {count}")
        return value

    def dimension(self, value: int) -> int:
        """Check a vector's length against the limits."""
        if not 1 <= value <= self._limits.dimension:
            raise self.refuse("dimension", f"is {value}, not 1 .. {self._limits.dimension}")
        return value

    def name(self, value: str, field: str) -> str:
        """Check a name."""
        if not _NAME.fullmatch(value):
            raise self.refuse(field, "is not a name: at most 63 lower-case letters, digits and hyphens")
        return value

    def names(self, values: Sequence[str], field: str) -> tuple[str, ...]:
        """Check names, of which none may occur twice."""
        names = tuple(self.name(value, field) for value in values)
        if len(set(names)) != len(names):
            raise self.refuse(field, "has a name twice")
        return names

    def owner_set(self, value: bytes, field: str) -> OwnerSet:
        """Check a set of owners; whether the task has as many is for the reader of the message to know."""
        try:
            return OwnerSet.from_bytes(value)
        except ValueError:
            raise self.refuse(field, "is not the bitmap of a set of owners") from None

    def own_name(self, value: str, field: str) -> str:
        """Check that the sender speaks in its own name.

        Raises:
            IdentityError: it claims to be somebody else.
        """
        if value != self.sender:
            raise IdentityError(
                f"{self.sender}: {field} claims to be another process than the certificate says: "
                "each process uses its own certificate and its own name"
            )
        return value
