from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

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
    STATUS_ALREADY_HELD: _ClassVar[Status]
    STATUS_LATE: _ClassVar[Status]
    STATUS_NO_SPACE: _ClassVar[Status]
    STATUS_WRONG_VERSION: _ClassVar[Status]

class Ask(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASK_UPDATE: _ClassVar[Ask]
    ASK_REPORT: _ClassVar[Ask]
    ASK_DATA: _ClassVar[Ask]
    ASK_ACCEPT: _ClassVar[Ask]
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
STATUS_ALREADY_HELD: Status
STATUS_LATE: Status
STATUS_NO_SPACE: Status
STATUS_WRONG_VERSION: Status
ASK_UPDATE: Ask
ASK_REPORT: Ask
ASK_DATA: Ask
ASK_ACCEPT: Ask

class JoinRequest(_message.Message):
    __slots__ = ("client_id", "session")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    def __init__(self, client_id: _Optional[str] = ..., session: _Optional[str] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("status", "reason", "run_id", "task_json", "device_index", "device_count")
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
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ..., run_id: _Optional[str] = ..., task_json: _Optional[str] = ..., device_index: _Optional[int] = ..., device_count: _Optional[int] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("client_id", "session", "run_id", "layout_digest", "examples")
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
    def __init__(self, client_id: _Optional[str] = ..., session: _Optional[str] = ..., run_id: _Optional[str] = ..., layout_digest: _Optional[bytes] = ..., examples: _Optional[int] = ...) -> None: ...

class RegisterReply(_message.Message):
    __slots__ = ("status", "reason")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: Status
    reason: str
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class TasksRequest(_message.Message):
    __slots__ = ("client_id", "session", "run_id", "held_payload", "held_bytes", "started_round")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    HELD_PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    HELD_BYTES_FIELD_NUMBER: _ClassVar[int]
    STARTED_ROUND_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    run_id: str
    held_payload: bytes
    held_bytes: int
    started_round: int
    def __init__(self, client_id: _Optional[str] = ..., session: _Optional[str] = ..., run_id: _Optional[str] = ..., held_payload: _Optional[bytes] = ..., held_bytes: _Optional[int] = ..., started_round: _Optional[int] = ...) -> None: ...

class Instruction(_message.Message):
    __slots__ = ("round_start", "chunk", "finish")
    ROUND_START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    round_start: RoundStart
    chunk: Chunk
    finish: Finish
    def __init__(self, round_start: _Optional[_Union[RoundStart, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ...) -> None: ...

class RoundStart(_message.Message):
    __slots__ = ("round", "downlink_codec", "uplink_codec", "payload_bytes", "payload_id", "offset", "error_feedback", "base_round", "keep", "down_factors", "trained_factors", "merge_rank", "fresh_seed", "ask")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DOWNLINK_CODEC_FIELD_NUMBER: _ClassVar[int]
    UPLINK_CODEC_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ERROR_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    BASE_ROUND_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    DOWN_FACTORS_FIELD_NUMBER: _ClassVar[int]
    TRAINED_FACTORS_FIELD_NUMBER: _ClassVar[int]
    MERGE_RANK_FIELD_NUMBER: _ClassVar[int]
    FRESH_SEED_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    round: int
    downlink_codec: str
    uplink_codec: str
    payload_bytes: int
    payload_id: bytes
    offset: int
    error_feedback: bool
    base_round: int
    keep: bool
    down_factors: str
    trained_factors: str
    merge_rank: int
    fresh_seed: _containers.RepeatedScalarFieldContainer[int]
    ask: Ask
    def __init__(self, round: _Optional[int] = ..., downlink_codec: _Optional[str] = ..., uplink_codec: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., payload_id: _Optional[bytes] = ..., offset: _Optional[int] = ..., error_feedback: _Optional[bool] = ..., base_round: _Optional[int] = ..., keep: _Optional[bool] = ..., down_factors: _Optional[str] = ..., trained_factors: _Optional[str] = ..., merge_rank: _Optional[int] = ..., fresh_seed: _Optional[_Iterable[int]] = ..., ask: _Optional[_Union[Ask, str]] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("offset", "crc32", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    crc32: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., crc32: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Finish(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class UploadKey(_message.Message):
    __slots__ = ("client_id", "session", "run_id", "round", "ask")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    run_id: str
    round: int
    ask: Ask
    def __init__(self, client_id: _Optional[str] = ..., session: _Optional[str] = ..., run_id: _Optional[str] = ..., round: _Optional[int] = ..., ask: _Optional[_Union[Ask, str]] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("key", "attempt", "codec", "payload_bytes", "offset", "steps", "loss", "adapter_crc32")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_CRC32_FIELD_NUMBER: _ClassVar[int]
    key: UploadKey
    attempt: int
    codec: str
    payload_bytes: int
    offset: int
    steps: int
    loss: float
    adapter_crc32: int
    def __init__(self, key: _Optional[_Union[UploadKey, _Mapping]] = ..., attempt: _Optional[int] = ..., codec: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., offset: _Optional[int] = ..., steps: _Optional[int] = ..., loss: _Optional[float] = ..., adapter_crc32: _Optional[int] = ...) -> None: ...

class UploadPart(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    chunk: Chunk
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ...) -> None: ...

class UploadReply(_message.Message):
    __slots__ = ("status", "reason", "received")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    status: Status
    reason: str
    received: int
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ..., received: _Optional[int] = ...) -> None: ...
