from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class SessionRef(_message.Message):
    __slots__ = ("task_digest", "session")
    TASK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    task_digest: bytes
    session: bytes
    def __init__(self, task_digest: _Optional[bytes] = ..., session: _Optional[bytes] = ...) -> None: ...

class Greeting(_message.Message):
    __slots__ = ("protocol", "name", "task_digest", "version", "time")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TASK_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    name: str
    task_digest: bytes
    version: str
    time: int
    def __init__(self, protocol: _Optional[int] = ..., name: _Optional[str] = ..., task_digest: _Optional[bytes] = ..., version: _Optional[str] = ..., time: _Optional[int] = ...) -> None: ...

class ReleaseHeader(_message.Message):
    __slots__ = ("dimension", "owners")
    DIMENSION_FIELD_NUMBER: _ClassVar[int]
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    dimension: int
    owners: bytes
    def __init__(self, dimension: _Optional[int] = ..., owners: _Optional[bytes] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
