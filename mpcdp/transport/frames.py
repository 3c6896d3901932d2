"""What travels between two compute parties: hello, then payloads cut into frames, then goodbye."""

from collections.abc import Iterator
from dataclasses import dataclass

from mpcdp.pb import mpc_pb2
from mpcdp.transport.codec import pieces, write_ref
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
    content: bytes

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
    size = memoryview(content).nbytes
    return [
        mpc_pb2.MeshFrame(
            data=mpc_pb2.MeshData(operation=operation, sequence=sequence, size=size, chunk=chunk)
        ).SerializeToString()
        for chunk in (pieces(content) if size else (b"",))
    ]


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
    while (frame := reader.optional(mpc_pb2.MeshFrame)) is not None:
        match frame.WhichOneof("frame"):
            case "data":
                yield _read_payload(reader, frame.data)
            case "goodbye":
                yield Goodbye(printable(frame.goodbye.reason) if frame.goodbye.HasField("reason") else None)
                reader.finish()
            case _:
                raise reader.refuse("frame", "is of no kind that is expected here")


def _read_hello(reader: Reader) -> Hello:
    frame = reader.required(mpc_pb2.MeshFrame)
    if frame.WhichOneof("frame") != "hello":
        raise reader.refuse("hello", "is missing")
    reader.own_name(frame.hello.party, "party")
    return Hello(ref=reader.ref(frame.hello.ref), parties=reader.names(frame.hello.parties, "parties"))


def _read_payload(reader: Reader, first: mpc_pb2.MeshData) -> Payload:
    if not 1 <= len(first.operation) <= OPERATION_CHARACTERS or not first.operation.isprintable():
        raise reader.refuse("operation", f"is not a name of 1 .. {OPERATION_CHARACTERS} printable characters")
    if first.size > PAYLOAD_BYTES:
        raise reader.refuse("size", f"is {first.size}, more than the {PAYLOAD_BYTES} bytes accepted")
    chunks = [_chunk(reader, first, 0)]
    received = len(chunks[0])
    while received < first.size:
        frame = reader.required(mpc_pb2.MeshFrame)
        data = frame.data
        if (data.operation, data.sequence, data.size) != (first.operation, first.sequence, first.size):
            raise reader.refuse("frame", "does not continue the payload before it")
        chunks.append(_chunk(reader, data, received))
        received += len(chunks[-1])
    return Payload(first.operation, first.sequence, chunks[0] if len(chunks) == 1 else b"".join(chunks))


def _chunk(reader: Reader, data: mpc_pb2.MeshData, received: int) -> bytes:
    chunk = data.chunk
    if len(chunk) > min(CHUNK_BYTES, data.size - received) or (not chunk and data.size):
        raise reader.refuse("chunk", f"has {len(chunk)} bytes after {received} of {data.size}")
    return chunk
