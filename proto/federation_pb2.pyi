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
    STATUS_NOT_PRIVATE: _ClassVar[Status]
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
STATUS_NOT_PRIVATE: Status

class JoinRequest(_message.Message):
    __slots__ = ("client_id", "session")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    def __init__(self, client_id: _Optional[str] = ..., session: _Optional[str] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("status", "reason", "run_id", "task_json", "device_index", "device_count", "privacy")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_JSON_FIELD_NUMBER: _ClassVar[int]
    DEVICE_INDEX_FIELD_NUMBER: _ClassVar[int]
    DEVICE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PRIVACY_FIELD_NUMBER: _ClassVar[int]
    status: Status
    reason: str
    run_id: str
    task_json: str
    device_index: int
    device_count: int
    privacy: Privacy
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ..., run_id: _Optional[str] = ..., task_json: _Optional[str] = ..., device_index: _Optional[int] = ..., device_count: _Optional[int] = ..., privacy: _Optional[_Union[Privacy, _Mapping]] = ...) -> None: ...

class Privacy(_message.Message):
    __slots__ = ("clip_norm", "noise_multiplier", "seed")
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    NOISE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    clip_norm: float
    noise_multiplier: float
    seed: int
    def __init__(self, clip_norm: _Optional[float] = ..., noise_multiplier: _Optional[float] = ..., seed: _Optional[int] = ...) -> None: ...

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
    __slots__ = ("round_start", "chunk", "finish", "keys_wanted", "roster", "delivery", "survivors")
    ROUND_START_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    KEYS_WANTED_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    SURVIVORS_FIELD_NUMBER: _ClassVar[int]
    round_start: RoundStart
    chunk: Chunk
    finish: Finish
    keys_wanted: KeysWanted
    roster: Roster
    delivery: Delivery
    survivors: Survivors
    def __init__(self, round_start: _Optional[_Union[RoundStart, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ..., finish: _Optional[_Union[Finish, _Mapping]] = ..., keys_wanted: _Optional[_Union[KeysWanted, _Mapping]] = ..., roster: _Optional[_Union[Roster, _Mapping]] = ..., delivery: _Optional[_Union[Delivery, _Mapping]] = ..., survivors: _Optional[_Union[Survivors, _Mapping]] = ...) -> None: ...

class RoundStart(_message.Message):
    __slots__ = ("round", "downlink_codec", "uplink_codec", "payload_bytes", "payload_id", "offset", "error_feedback", "base_round", "keep", "down_factors", "trained_factors", "merge_rank", "fresh_seed", "cohort", "ring_bits", "weight")
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
    COHORT_FIELD_NUMBER: _ClassVar[int]
    RING_BITS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
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
    cohort: int
    ring_bits: int
    weight: float
    def __init__(self, round: _Optional[int] = ..., downlink_codec: _Optional[str] = ..., uplink_codec: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., payload_id: _Optional[bytes] = ..., offset: _Optional[int] = ..., error_feedback: _Optional[bool] = ..., base_round: _Optional[int] = ..., keep: _Optional[bool] = ..., down_factors: _Optional[str] = ..., trained_factors: _Optional[str] = ..., merge_rank: _Optional[int] = ..., fresh_seed: _Optional[_Iterable[int]] = ..., cohort: _Optional[int] = ..., ring_bits: _Optional[int] = ..., weight: _Optional[float] = ...) -> None: ...

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
    __slots__ = ("client_id", "session", "run_id", "round")
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    client_id: str
    session: str
    run_id: str
    round: int
    def __init__(self, client_id: _Optional[str] = ..., session: _Optional[str] = ..., run_id: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("key", "attempt", "codec", "payload_bytes", "offset", "steps", "loss", "adapter_crc32", "clip_norm", "noise_std")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_CRC32_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_FIELD_NUMBER: _ClassVar[int]
    NOISE_STD_FIELD_NUMBER: _ClassVar[int]
    key: UploadKey
    attempt: int
    codec: str
    payload_bytes: int
    offset: int
    steps: int
    loss: float
    adapter_crc32: int
    clip_norm: float
    noise_std: float
    def __init__(self, key: _Optional[_Union[UploadKey, _Mapping]] = ..., attempt: _Optional[int] = ..., codec: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., offset: _Optional[int] = ..., steps: _Optional[int] = ..., loss: _Optional[float] = ..., adapter_crc32: _Optional[int] = ..., clip_norm: _Optional[float] = ..., noise_std: _Optional[float] = ...) -> None: ...

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

class KeysWanted(_message.Message):
    __slots__ = ("round", "devices", "threshold")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    round: int
    devices: int
    threshold: int
    def __init__(self, round: _Optional[int] = ..., devices: _Optional[int] = ..., threshold: _Optional[int] = ...) -> None: ...

class PublicKeys(_message.Message):
    __slots__ = ("key", "mask_key", "share_key")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    SHARE_KEY_FIELD_NUMBER: _ClassVar[int]
    key: UploadKey
    mask_key: bytes
    share_key: bytes
    def __init__(self, key: _Optional[_Union[UploadKey, _Mapping]] = ..., mask_key: _Optional[bytes] = ..., share_key: _Optional[bytes] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("round", "number", "members")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    round: int
    number: int
    members: _containers.RepeatedCompositeFieldContainer[Member]
    def __init__(self, round: _Optional[int] = ..., number: _Optional[int] = ..., members: _Optional[_Iterable[_Union[Member, _Mapping]]] = ...) -> None: ...

class Member(_message.Message):
    __slots__ = ("number", "mask_key", "share_key")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MASK_KEY_FIELD_NUMBER: _ClassVar[int]
    SHARE_KEY_FIELD_NUMBER: _ClassVar[int]
    number: int
    mask_key: bytes
    share_key: bytes
    def __init__(self, number: _Optional[int] = ..., mask_key: _Optional[bytes] = ..., share_key: _Optional[bytes] = ...) -> None: ...

class Share(_message.Message):
    __slots__ = ("number", "data")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    number: int
    data: bytes
    def __init__(self, number: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SealedShares(_message.Message):
    __slots__ = ("key", "shares")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    key: UploadKey
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, key: _Optional[_Union[UploadKey, _Mapping]] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("round", "shares")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SHARES_FIELD_NUMBER: _ClassVar[int]
    round: int
    shares: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, round: _Optional[int] = ..., shares: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class Survivors(_message.Message):
    __slots__ = ("round", "sent", "dropped")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SENT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    round: int
    sent: _containers.RepeatedScalarFieldContainer[int]
    dropped: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, round: _Optional[int] = ..., sent: _Optional[_Iterable[int]] = ..., dropped: _Optional[_Iterable[int]] = ...) -> None: ...

class RevealedShares(_message.Message):
    __slots__ = ("key", "seeds", "keys")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    key: UploadKey
    seeds: _containers.RepeatedCompositeFieldContainer[Share]
    keys: _containers.RepeatedCompositeFieldContainer[Share]
    def __init__(self, key: _Optional[_Union[UploadKey, _Mapping]] = ..., seeds: _Optional[_Iterable[_Union[Share, _Mapping]]] = ..., keys: _Optional[_Iterable[_Union[Share, _Mapping]]] = ...) -> None: ...

class StageReply(_message.Message):
    __slots__ = ("status", "reason")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: Status
    reason: str
    def __init__(self, status: _Optional[_Union[Status, str]] = ..., reason: _Optional[str] = ...) -> None: ...
