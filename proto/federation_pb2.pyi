from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_OK: _ClassVar[Status]
    STATUS_UNKNOWN_CLIENT: _ClassVar[Status]
    STATUS_IDENTITY_IN_USE: _ClassVar[Status]
    STATUS_WRONG_RUN: _ClassVar[Status]
    STATUS_WRONG_LAYOUT: _ClassVar[Status]
    STATUS_WRONG_ROUND: _ClassVar[Status]
    STATUS_TOO_LONG: _ClassVar[Status]
    STATUS_CORRUPT: _ClassVar[Status]
    STATUS_NOT_FINITE: _ClassVar[Status]
    STATUS_INCOMPLETE: _ClassVar[Status]
    STATUS_WRONG_CODEC: _ClassVar[Status]

STATUS_UNSPECIFIED: Status
STATUS_OK: Status
STATUS_UNKNOWN_CLIENT: Status
STATUS_IDENTITY_IN_USE: Status
STATUS_WRONG_RUN: Status
STATUS_WRONG_LAYOUT: Status
STATUS_WRONG_ROUND: Status
STATUS_TOO_LONG: Status
STATUS_CORRUPT: Status
STATUS_NOT_FINITE: Status
STATUS_INCOMPLETE: Status
STATUS_WRONG_CODEC: Status

class JoinRequest(_message.Message):
    __slots__ = ("client_id", "session")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    def __init__(self, client_id: str | None = ..., session: str | None = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("device_count", "device_index", "reason", "run_id", "status", "task_json")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_JSON_FIELD_NUMBER: _ClassVar[int]
    DEVICE_INDEX_FIELD_NUMBER: _ClassVar[int]
    DEVICE_COUNT_FIELD_NUMBER: _ClassVar[int]
    status: Status
    reason: str
    run_id: str
    task_json: str
    device_index: int
    device_count: int
    def __init__(
        self,
        status: Status | str | None = ...,
        reason: str | None = ...,
        run_id: str | None = ...,
        task_json: str | None = ...,
        device_index: int | None = ...,
        device_count: int | None = ...,
    ) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("client_id", "examples", "layout_digest", "run_id", "session")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    run_id: str
    layout_digest: bytes
    examples: int
    def __init__(
        self,
        client_id: str | None = ...,
        session: str | None = ...,
        run_id: str | None = ...,
        layout_digest: bytes | None = ...,
        examples: int | None = ...,
    ) -> None: ...

class RegisterReply(_message.Message):
    __slots__ = ("reason", "status")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: Status
    reason: str
    def __init__(self, status: Status | str | None = ..., reason: str | None = ...) -> None: ...

class TasksRequest(_message.Message):
    __slots__ = ("client_id", "run_id", "session")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    run_id: str
    def __init__(
        self, client_id: str | None = ..., session: str | None = ..., run_id: str | None = ...
    ) -> None: ...

class Instruction(_message.Message):
    __slots__ = ("chunk", "finish", "round_start")
    ROUND_START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    round_start: RoundStart
    chunk: Chunk
    finish: Finish
    def __init__(
        self,
        round_start: RoundStart | _Mapping | None = ...,
        chunk: Chunk | _Mapping | None = ...,
        finish: Finish | _Mapping | None = ...,
    ) -> None: ...

class RoundStart(_message.Message):
    __slots__ = ("downlink_codec", "payload_bytes", "round", "uplink_codec")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_CODEC_FIELD_NUMBER: _ClassVar[int]
    UPLINK_CODEC_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    round: int
    downlink_codec: str
    uplink_codec: str
    payload_bytes: int
    def __init__(
        self,
        round: int | None = ...,
        downlink_codec: str | None = ...,
        uplink_codec: str | None = ...,
        payload_bytes: int | None = ...,
    ) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("crc32", "data", "offset")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    crc32: int
    data: bytes
    def __init__(
        self, offset: int | None = ..., crc32: int | None = ..., data: bytes | None = ...
    ) -> None: ...

class Finish(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: str | None = ...) -> None: ...

class UploadKey(_message.Message):
    __slots__ = ("client_id", "round", "run_id", "session")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    run_id: str
    round: int
    def __init__(
        self,
        client_id: str | None = ...,
        session: str | None = ...,
        run_id: str | None = ...,
        round: int | None = ...,
    ) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("attempt", "codec", "key", "loss", "offset", "payload_bytes", "steps")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    key: UploadKey
    attempt: int
    codec: str
    payload_bytes: int
    offset: int
    steps: int
    loss: float
    def __init__(
        self,
        key: UploadKey | _Mapping | None = ...,
        attempt: int | None = ...,
        codec: str | None = ...,
        payload_bytes: int | None = ...,
        offset: int | None = ...,
        steps: int | None = ...,
        loss: float | None = ...,
    ) -> None: ...

class UploadPart(_message.Message):
    __slots__ = ("chunk", "header")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    chunk: Chunk
    def __init__(
        self, header: UploadHeader | _Mapping | None = ..., chunk: Chunk | _Mapping | None = ...
    ) -> None: ...

class UploadReply(_message.Message):
    __slots__ = ("reason", "received", "status")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    status: Status
    reason: str
    received: int
    def __init__(
        self, status: Status | str | None = ..., reason: str | None = ..., received: int | None = ...
    ) -> None: ...
