"""What gRPC sent, whatever HTTP/2 and protobuf have cut it into; and what lies under other encodings."""

from __future__ import annotations

import base64
import gzip
import io
import random
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.leaks.capture import Connection
from experiments.leaks.hidden import TooLargeError, uncover
from experiments.leaks.payloads import Payloads, unframe
from experiments.leaks.streams import Joined
from proto import federation_pb2 as pb
from proto.payload import chunks
from tests.experiments.captured import grpc, http2, upload


def payloads(up: bytes, down: bytes = b"") -> Payloads:
    return unframe(Connection(Joined(up, [], 0), Joined(down, [], 0)))


@given(
    first=st.binary(max_size=3000),
    second=st.binary(min_size=1, max_size=3000),
    most=st.integers(1, 500),
    chunk_bytes=st.integers(1, 900),
    seed=st.integers(0, 100),
)
def test_payloads_come_out_in_one_piece(
    first: bytes, second: bytes, most: int, chunk_bytes: int, seed: int
) -> None:
    bodies = {1: upload(first, 1, chunk_bytes), 3: upload(second, 2, chunk_bytes)}
    start = pb.Instruction(round_start=pb.RoundStart(round=1, payload_bytes=len(second)))
    parts = [start, *(pb.Instruction(chunk=chunk) for chunk in chunks([second], chunk_bytes=chunk_bytes))]
    down = {5: b"".join(grpc(part.SerializeToString()) for part in parts)}
    found = payloads(http2(bodies, most=most, preface=True, seed=seed), http2(down, most=most, preface=False))
    assert second in found.up and (first in found.up or not first) and second in found.down
    assert found.up_rounds == {2: len(second)} | ({1: len(first)} if first else {})
    assert found.is_http2 and found.problems == []


def test_a_payload_that_goes_on_after_a_cut_is_two_pieces() -> None:
    body = b"".join(
        grpc(pb.UploadPart(chunk=chunk).SerializeToString())
        for chunk in (*chunks([b"abc"]), *chunks([b"fgh"], 5), *chunks([b"ij"], 8))
    )
    assert payloads(http2({1: body}, preface=True)).up == [b"abc", b"fghij"]


def test_other_messages_come_as_they_are() -> None:
    join = pb.JoinRequest(client_id="dev0", session="0123456789abcdef").SerializeToString()
    reply = pb.JoinReply(status=pb.STATUS_OK, task_json='{"steps": 3}').SerializeToString()
    found = payloads(http2({1: grpc(join)}, preface=True), http2({1: grpc(reply)}, preface=False))
    assert found.up == [join] and found.down == [reply]


def test_compressed_messages_are_decompressed() -> None:
    body = b"".join(grpc(pack(b"hello " * 20), compressed=True) for pack in (gzip.compress, zlib.compress))
    assert payloads(http2({1: body}, preface=True)).up == [b"hello " * 20] * 2


def test_what_cannot_be_read_is_a_problem() -> None:
    assert "gRPC" in payloads(http2({1: b"\x07" + bytes(20)}, preface=True)).problems[0]
    broken = http2({1: grpc(b"x")}, preface=True) + bytes.fromhex("000001 00 00 00000000 41")
    assert "HTTP/2 up cannot be read" in payloads(broken).problems[0]
    garbled = http2({1: grpc(b"not gzip", compressed=True)}, preface=True)
    assert "HTTP/2 up cannot be read" in payloads(garbled).problems[0]


def test_other_protocols_have_no_framing_to_take_off() -> None:
    found = payloads(b"GET / HTTP/1.1\r\n\r\n")
    assert not found.is_http2 and found.up == [] and found.problems == []


SECRET = random.Random(5).randbytes(300) + b"grinning face, flat style" * 3
PIXELS = np.random.default_rng(1).integers(0, 256, (8, 10, 3), np.uint8)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("secret.bin", content)
    return file.getvalue()


@pytest.mark.parametrize(
    "pack",
    [
        zlib.compress,
        gzip.compress,
        zstandard.ZstdCompressor().compress,
        zipped,
        base64.b64encode,
        lambda content: b"Zm9" + base64.b64encode(content),
        lambda content: base64.b64encode(zstandard.ZstdCompressor().compress(content)),
    ],
    ids=["zlib", "gzip", "zstd", "zip", "base64", "base64 after letters", "zstd in base64"],
)
def test_what_is_under_an_encoding_is_found(pack: Callable[[bytes], bytes]) -> None:
    around = random.Random(9).randbytes(1000)
    data = around + b"{" + pack(SECRET) + b"}" + around
    assert SECRET not in data
    assert any(SECRET in found for found in uncover(data, 1 << 20))


def test_an_image_file_is_found_as_its_pixels() -> None:
    for data in (b"abc" + png() + b"def" * 99, zlib.compress(b"x" * 50 + png())):
        assert PIXELS.tobytes() in list(uncover(data, 1 << 20))


def test_a_stream_cut_off_is_found_as_far_as_it_goes() -> None:
    assert any(SECRET[:200] in found for found in uncover(zlib.compress(SECRET)[:-40], 1 << 20))


def test_random_bytes_hide_nothing_much() -> None:
    data = random.Random(3).randbytes(200_000)
    assert sum(len(found) for found in uncover(data, 1 << 20)) < 20_000


def test_what_becomes_too_long_is_said() -> None:
    with pytest.raises(TooLargeError, match="longer than 1000000 bytes"):
        list(uncover(zlib.compress(bytes(50_000_000)), 1_000_000))
