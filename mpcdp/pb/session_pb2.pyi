from mpcdp.pb import types_pb2 as _types_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Attendance(_message.Message):
    __slots__ = ("task_digest", "owner", "record_count")
    TASK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    RECORD_COUNT_FIELD_NUMBER: _ClassVar[int]
    task_digest: bytes
    owner: str
    record_count: int
    def __init__(self, task_digest: _Optional[bytes] = ..., owner: _Optional[str] = ..., record_count: _Optional[int] = ...) -> None: ...

class EventPart(_message.Message):
    __slots__ = ("started", "released", "round", "finished", "aborted", "chunk")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    ABORTED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    started: SessionStarted
    released: Released
    round: RoundStarted
    finished: Finished
    aborted: Aborted
    chunk: bytes
    def __init__(self, started: _Optional[_Union[SessionStarted, _Mapping]] = ..., released: _Optional[_Union[Released, _Mapping]] = ..., round: _Optional[_Union[RoundStarted, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., aborted: _Optional[_Union[Aborted, _Mapping]] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class SessionStarted(_message.Message):
    __slots__ = ("ref",)
    REF_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("ref", "round_index", "release")
    REF_FIELD_NUMBER: _ClassVar[int]
    ROUND_INDEX_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    round_index: int
    release: _types_pb2.ReleaseHeader
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ..., round_index: _Optional[int] = ..., release: _Optional[_Union[_types_pb2.ReleaseHeader, _Mapping]] = ...) -> None: ...

class RoundStarted(_message.Message):
    __slots__ = ("ref", "round_index", "previous")
    REF_FIELD_NUMBER: _ClassVar[int]
    ROUND_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    round_index: int
    previous: _types_pb2.ReleaseHeader
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ..., round_index: _Optional[int] = ..., previous: _Optional[_Union[_types_pb2.ReleaseHeader, _Mapping]] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("ref", "last")
    REF_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    ref: _types_pb2.SessionRef
    last: _types_pb2.ReleaseHeader
    def __init__(self, ref: _Optional[_Union[_types_pb2.SessionRef, _Mapping]] = ..., last: _Optional[_Union[_types_pb2.ReleaseHeader, _Mapping]] = ...) -> None: ...

class Aborted(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...
