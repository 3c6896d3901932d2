"""What travels between two compute parties: hello, then payloads cut into frames, then goodbye.

Payloads make up nearly all bytes of a secure computation, and protobuf copies a field's bytes twice on either side. So
the frames that carry them are put together and taken apart here, in exactly protobuf's encoding (`mpc.proto`), with one
copy on either side.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from mpcdp.pb import mpc_pb2
from mpcdp.transport.codec import write_ref
from mpcdp.transport.messages import SessionRef
from mpcdp.transport.reader import CHUNK_BYTES, Reader, printable

__all__ = [
    "OPERATION_CHARACTERS",
    "PAYLOAD_BYTES",
    "Goodbye",
    "Hello",
    "Payload",
    "read_frames",
    "write_goodbye",
    "write_hello",
    "write_payload",
]

PAYLOAD_BYTES = 1 << 30
"""Largest payload accepted from a peer in one exchange."""

OPERATION_CHARACTERS = 64

# Field number and wire type of MeshFrame.data, and of MeshData.operation, .sequence, .size and .chunk.
_DATA_TAG = 0x12
_OPERATION_TAG = 0x0A
_NUMBER_TAGS = (0x10, 0x18)
_CHUNK_TAG = 0x22
_LARGEST_OPERATION = 4 * OPERATION_CHARACTERS


@dataclass(frozen=True)
class Hello:
    """The first frame in each direction.

    Args:
        ref: the session.
        parties: its compute parties in rank order.
    """

    ref: SessionRef
    parties: tuple[str, ...]


@dataclass(frozen=True)
class Payload:
    """What one party sends another in one exchange.

    Args:
        operation: name of the step.
        sequence: number of exchanges before this one.
        content: the payload; masked, but not shown.
    """

    operation: str
    sequence: int
    content: bytes | memoryview

    def __repr__(self) -> str:
        return f"Payload({self.operation!r}, {self.sequence}, <{len(self.content)} bytes>)"


@dataclass(frozen=True)
class Goodbye:
    """The last frame in each direction.

    Args:
        reason: why the sender leaves before the end; None when it is done.
    """

    reason: str | None


def write_hello(party: str, hello: Hello) -> bytes:
    """Serialize the first frame that a party sends."""
    message = mpc_pb2.MeshHello(ref=write_ref(hello.ref), party=party, parties=hello.parties)
    return mpc_pb2.MeshFrame(hello=message).SerializeToString()


def write_payload(operation: str, sequence: int, content: bytes | memoryview) -> list[bytes]:
    """Serialize a payload as at least one frame; the same frames serve every peer."""
    view = memoryview(content)
    view = view.cast("B") if view.nbytes else memoryview(b"")
    head = mpc_pb2.MeshData(operation=operation, sequence=sequence, size=view.nbytes).SerializeToString()
    starts = range(0, max(view.nbytes, 1), CHUNK_BYTES)
    return [_data_frame(head, view[start : start + CHUNK_BYTES]) for start in starts]


def _data_frame(head: bytes, chunk: memoryview) -> bytes:
    """Return MeshFrame(data=...) from the serialized fields before the chunk, and the chunk."""
    chunk_head = bytes((_CHUNK_TAG,)) + _varint(chunk.nbytes) if chunk.nbytes else b""
    length = len(head) + len(chunk_head) + chunk.nbytes
    return b"".join((bytes((_DATA_TAG,)), _varint(length), head, chunk_head, chunk))


def _varint(value: int) -> bytes:
    """Return a number in protobuf's base-128 encoding."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """Return a number and where it ends; one that is not finished within ten bytes is -1."""
    value = 0
    for offset, byte in enumerate(data[start : start + 10]):
        value |= (byte & 0x7F) << 7 * offset
        if byte < 0x80:
            return value, start + offset + 1
    return -1, start


def _split_data_frame(data: bytes) -> tuple[bytes, memoryview] | None:
    """Split a frame of `write_payload` into the serialized fields before its chunk, and the chunk, without copying it.

    Returns:
        None for every other message, which protobuf itself then reads.
    """
    if not data or data[0] != _DATA_TAG:
        return None
    length, start = _read_varint(data, 1)
    if length != len(data) - start:
        return None
    # The fields before the chunk: a text of at most 256 bytes and two numbers.
    at = start
    if data[at : at + 1] == bytes((_OPERATION_TAG,)):
        size, at = _read_varint(data, at + 1)
        if not 0 <= size <= _LARGEST_OPERATION:
            return None
        at += size
    for tag in _NUMBER_TAGS:
        if data[at : at + 1] == bytes((tag,)):
            value, at = _read_varint(data, at + 1)
            if value < 0:
                return None
    if data[at : at + 1] != bytes((_CHUNK_TAG,)):
        return None
    size, begin = _read_varint(data, at + 1)
    if size != len(data) - begin:
        return None
    return data[start:at], memoryview(data)[begin:]


def write_goodbye(reason: str | None) -> bytes:
    """Serialize the last frame that a party sends."""
    goodbye = mpc_pb2.MeshGoodbye() if reason is None else mpc_pb2.MeshGoodbye(reason=printable(reason))
    return mpc_pb2.MeshFrame(goodbye=goodbye).SerializeToString()


def read_frames(reader: Reader) -> Iterator[Hello | Payload | Goodbye]:
    """Read a peer's side of the stream as it arrives: hello, whole payloads, goodbye.

    The iterator ends where the stream ends; a stream that ends without a goodbye was broken off.

    Raises:
        ProtocolError: a frame is malformed or at the wrong place.
        IdentityError: the hello claims another name than the certificate.
    """
    yield _read_hello(reader)
    while (frame := _next_frame(reader)) is not None:
        match frame:
            case _Piece():
                yield _read_payload(reader, frame)
            case Goodbye():
                yield frame
                reader.finish()


def _next_frame(reader: Reader) -> "_Piece | Goodbye | None":
    """Read a piece of a payload, or a goodbye; None where the stream ends."""
    data = reader.optional_bytes("MeshFrame")
    if data is None:
        return None
    if (parts := _split_data_frame(data)) is not None:
        return _Piece(reader.parse(mpc_pb2.MeshData, parts[0]), parts[1])
    frame = reader.parse(mpc_pb2.MeshFrame, data)
    match frame.WhichOneof("frame"):
        case "data":
            return _Piece(frame.data, memoryview(frame.data.chunk))
        case "goodbye":
            return Goodbye(printable(frame.goodbye.reason) if frame.goodbye.HasField("reason") else None)
        case _:
            raise reader.refuse("frame", "is of no kind that is expected here")


@dataclass(frozen=True)
class _Piece:
    """One frame of a payload: its header, whose own chunk is of no interest, and the bytes that it carries."""

    header: mpc_pb2.MeshData
    chunk: memoryview


def _read_hello(reader: Reader) -> Hello:
    frame = reader.required(mpc_pb2.MeshFrame)
    if frame.WhichOneof("frame") != "hello":
        raise reader.refuse("hello", "is missing")
    reader.own_name(frame.hello.party, "party")
    return Hello(ref=reader.ref(frame.hello.ref), parties=reader.names(frame.hello.parties, "parties"))


def _read_payload(reader: Reader, piece: _Piece) -> Payload:
    first = piece.header
    if not 1 <= len(first.operation) <= OPERATION_CHARACTERS or not first.operation.isprintable():
        raise reader.refuse("operation", f"is not a name of 1 .. {OPERATION_CHARACTERS} printable characters")
    if first.size > PAYLOAD_BYTES:
        raise reader.refuse("size", f"is {first.size}, more than the {PAYLOAD_BYTES} bytes accepted")
    chunks = [_chunk(reader, piece, 0)]
    received = chunks[0].nbytes
    while received < first.size:
        following = _next_frame(reader)
        if following is None:
            raise reader.refuse("MeshFrame", "is missing: the call ended too early")
        if not (isinstance(following, _Piece) and _continues(following.header, first)):
            raise reader.refuse("frame", "does not continue the payload before it")
        chunks.append(_chunk(reader, following, received))
        received += chunks[-1].nbytes
    return Payload(first.operation, first.sequence, chunks[0] if len(chunks) == 1 else b"".join(chunks))


def _continues(header: mpc_pb2.MeshData, first: mpc_pb2.MeshData) -> bool:
    return (header.operation, header.sequence, header.size) == (first.operation, first.sequence, first.size)


def _chunk(reader: Reader, piece: _Piece, received: int) -> memoryview:
    length, size = piece.chunk.nbytes, piece.header.size
    if length > min(CHUNK_BYTES, size - received) or (not length and size):
        raise reader.refuse("chunk", f"has {length} bytes after {received} of {size}")
    return piece.chunk
