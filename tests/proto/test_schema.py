"""The schema in the repository and the code generated from it are one thing."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc_tools import protoc

from proto import federation_pb2 as pb

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("python_out", "federation_pb2.py"),
        ("grpc_python_out", "federation_pb2_grpc.py"),
        ("pyi_out", "federation_pb2.pyi"),
    ],
)
def test_the_generated_code_is_what_protoc_makes_of_the_schema_now(
    tmp_path: Path, option: str, name: str
) -> None:
    """Red after an edit of federation.proto: run `make proto/federation_pb2.py` and commit all three."""
    command = ["protoc", f"-I{ROOT}", f"--{option}={tmp_path}", str(ROOT / "proto/federation.proto")]
    assert protoc.main(command) == 0
    assert (tmp_path / "proto" / name).read_text() == (ROOT / "proto" / name).read_text()


@pytest.mark.parametrize(
    ("message", "numbers"),
    [
        (pb.Chunk, {"offset": 1, "crc32": 2, "data": 3}),
        (pb.UploadKey, {"client_id": 1, "session": 2, "run_id": 3, "round": 4}),
        (pb.RoundStart, {"round": 1, "downlink_codec": 2, "uplink_codec": 3, "payload_bytes": 4}),
    ],
)
def test_field_numbers_are_the_wire_and_never_move(message: type, numbers: dict[str, int]) -> None:
    """A device with yesterday's build must be understood: fields are added, never renumbered."""
    fields = message.DESCRIPTOR.fields_by_name
    assert {name: fields[name].number for name in numbers} == numbers


def test_statuses_keep_their_numbers() -> None:
    assert list(pb.Status.items())[:12] == [
        ("STATUS_UNSPECIFIED", 0),
        ("STATUS_OK", 1),
        ("STATUS_UNKNOWN_CLIENT", 2),
        ("STATUS_IDENTITY_IN_USE", 3),
        ("STATUS_WRONG_RUN", 4),
        ("STATUS_WRONG_LAYOUT", 5),
        ("STATUS_WRONG_ROUND", 6),
        ("STATUS_TOO_LONG", 7),
        ("STATUS_CORRUPT", 8),
        ("STATUS_NOT_FINITE", 9),
        ("STATUS_INCOMPLETE", 10),
        ("STATUS_WRONG_CODEC", 11),
    ]
