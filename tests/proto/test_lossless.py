"""zstd and ans: they change bytes and no value, save what there is to save, and take no bomb."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings

from proto import codecs
from proto.adapter import Vector
from proto.codecs import CodecError
from proto.codecs.packing import unpack
from tests.proto.test_codecs import rng, vectors

INSIDE = ("fp32", "fp16", "bf16", "int8", "int4", "int2", "nf4", "qsgd(3)", "qsgd(5)", "eden(3)", "sign")


@pytest.mark.parametrize("stage", ["zstd", "ans"])
@pytest.mark.parametrize("inside", INSIDE)
@given(vector=vectors(largest_exponent=3))
@settings(max_examples=8)
def test_the_values_are_those_of_the_codec_inside(stage: str, inside: str, vector: Vector) -> None:
    plain, packed = codecs.parse(inside), codecs.parse(f"{inside}|{stage}")
    expected = plain.decode(plain.encode(vector, rng()), vector.size)
    decoded = packed.decode(packed.encode(vector, rng()), vector.size)
    assert decoded.tobytes() == expected.tobytes()


@pytest.mark.parametrize("inside", ["int4", "int2", "int8", "nf4", "qsgd(3)", "qsgd(4)", "eden(2)"])
def test_ans_comes_within_a_percent_of_the_symbols_entropy(inside: str) -> None:
    """Of the first field; what remains, the scales, are counted as they are."""
    vector = rng().standard_normal(2**15, np.float32)
    plain = codecs.parse(inside)
    payload = plain.encode(vector, rng())
    symbols_at = 1 if inside.startswith("eden") else 0
    field = plain.fields(vector.size)[symbols_at]  # type: ignore[attr-defined]
    part = plain.split(payload, vector.size)[symbols_at]  # type: ignore[attr-defined]
    counts = np.bincount(unpack(part, field.bits, field.count))
    shares = counts[counts > 0] / field.count
    entropy_bytes = -field.count * (shares * np.log2(shares)).sum() / 8
    length = len(codecs.parse(f"{inside}|ans").encode(vector, rng()))
    assert length <= 1.01 * entropy_bytes + len(payload) - part.size + 2**field.bits


@pytest.mark.parametrize("name", ["fp32|ans", "int4|ans", "qsgd(3)|ans", "fp16|zstd"])
def test_a_vector_of_zeros_costs_next_to_nothing(name: str) -> None:
    assert len(codecs.parse(name).encode(np.zeros(2**15, np.float32), rng())) < 150


def test_a_codec_that_leaves_no_symbols_is_not_for_ans() -> None:
    class Ready:
        name = "ready"

    from proto.codecs.ans import Ans

    with pytest.raises(CodecError, match=r"codec ready\|ans: ready is entropy coded already"):
        Ans(Ready())  # type: ignore[arg-type]


def frame_that_lies(content: bytes, claim: int) -> bytes:
    """A Zstandard frame of `content` whose header claims `claim` bytes (RFC 8878, section 3.1.1.1)."""
    frame = bytearray(zstandard.ZstdCompressor().compress(content))
    assert frame[4] == 0x80, "a window descriptor, then the content's size in four bytes"
    frame[6:10] = claim.to_bytes(4, "little")
    return bytes(frame)


BIG = bytes(20_000_000)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (zstandard.ZstdCompressor().compress(BIG), "a frame of 20000000 bytes, 100 values make 400 at most"),
        (frame_that_lies(BIG, 2**32 - 1), "a frame of 4294967295 bytes"),
        (frame_that_lies(BIG, 400), "decompress"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(bytes(400)), "a frame of -1 bytes"),
        (zstandard.ZstdCompressor().compress(b""), "a frame of 0 bytes"),
        (zstandard.ZstdCompressor().compress(bytes(400)) * 2, "19 bytes of unused data"),
        (b"not a frame", "error when determining content size"),
    ],
)
def test_a_bomb_is_refused_before_memory_is_taken(frame: bytes, complaint: str) -> None:
    codec = codecs.parse("zstd")
    payload = (b"\1" + frame)[:401] if len(frame) > 400 else b"\1" + frame
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match=complaint):
            codec.decode(payload, 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_a_frame_longer_than_what_is_in_it_is_refused() -> None:
    """Though it would decode: encode leaves such bytes as they are."""
    plain = rng().standard_normal(100, np.float32).tobytes()
    with pytest.raises(CodecError, match=r"fp32\|zstd: 411 bytes, beginning with"):
        codecs.parse("zstd").decode(b"\1" + zstandard.ZstdCompressor().compress(plain), 100)


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"\2", r"no plane begins with b'\\x02'"),
        (b"\1\x05\x04", "symbols 5 to 4 of 16"),
        (b"\1\x00\x10", "symbols 0 to 16 of 16"),
        (b"\1\x03\x03\0", "no symbol has a frequency"),
        (b"\1\x03\x03\1\xff\xff\xff\xff", "payload ends after 8 bytes"),
        (b"\1\x03\x03\1\1\0\0\0\0\0\0\0", "zero word"),
        (b"\1\x03\x03\1\3\0\0\0" + b"\x33" * 12, "words too many"),
    ],
)
def test_planes_that_no_encoder_makes_are_refused(payload: bytes, complaint: str) -> None:
    with pytest.raises(CodecError, match=complaint):
        codecs.parse("int4|ans").decode(payload, 100)
