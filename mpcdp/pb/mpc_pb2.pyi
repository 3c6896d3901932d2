from mpcdp.pb import share_pb2 as _share_pb2
from mpcdp.pb import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OpenSession(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ...) -> None: ...

class CloseSession(_message.Message):
    __slots__ = ("ref", "reason")
    REF_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    reason: str
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Aggregate(_message.Message):
    __slots__ = ("ref", "round_index", "owners")
    REF_FIELD_NUMBER: _ClassVar[int]
    ROUND_INDEX_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    round_index: int
    owners: bytes
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ..., round_index: _Optional[int] = ..., owners: _Optional[bytes] = ...) -> None: ...

class ReleasePart(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: _types_pb2.ReleaseHeader
    chunk: bytes
    def __init__(self, header: _Optional[_Union[_types_pb2.ReleaseHeader, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class OutcomeRequest(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("rounds", "history")
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    rounds: int
    history: bytes
    def __init__(self, rounds: _Optional[int] = ..., history: _Optional[bytes] = ...) -> None: ...

class DealRequest(_message.Message):
    __slots__ = ("ref", "party", "nonce", "batch", "schedule_digest", "samples")
    REF_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    party: str
    nonce: bytes
    batch: str
    schedule_digest: bytes
    samples: int
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ..., party: _Optional[str] = ..., nonce: _Optional[bytes] = ..., batch: _Optional[str] = ..., schedule_digest: _Optional[bytes] = ..., samples: _Optional[int] = ...) -> None: ...

class DealPart(_message.Message):
    __slots__ = ("seed", "corrections")
    SEED_FIELD_NUMBER: _ClassVar[int]
    CORRECTIONS_FIELD_NUMBER: _ClassVar[int]
    seed: bytes
    corrections: bytes
    def __init__(self, seed: _Optional[bytes] = ..., corrections: _Optional[bytes] = ...) -> None: ...

class MeshFrame(_message.Message):
    __slots__ = ("hello", "data", "goodbye")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    hello: MeshHello
    data: MeshData
    goodbye: MeshGoodbye
    def __init__(self, hello: _Optional[_Union[MeshHello, _Mapping]] = ..., data: _Optional[_Union[MeshData, _Mapping]] = ..., goodbye: _Optional[_Union[MeshGoodbye, _Mapping]] = ...) -> None: ...

class MeshHello(_message.Message):
    __slots__ = ("ref", "party", "parties")
    REF_FIELD_NUMBER: _ClassVar[int]
    PARTY_FIELD_NUMBER: _ClassVar[int]
    PARTIES_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    party: str
    parties: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ..., party: _Optional[str] = ..., parties: _Optional[_Iterable[str]] = ...) -> None: ...

class MeshData(_message.Message):
    __slots__ = ("operation", "sequence", "size", "chunk")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    operation: str
    sequence: int
    size: int
    chunk: bytes
    def __init__(self, operation: _Optional[str] = ..., sequence: _Optional[int] = ..., size: _Optional[int] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class MeshGoodbye(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...
