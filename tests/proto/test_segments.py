"""Segments: any codec's payload is made, cut, taken up again and decoded a segment at a time."""

from __future__ import annotations

import tracemalloc
import zlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codecs
from proto.adapter import Vector
from proto.codecs import Codec, CodecError
from proto.segments import SEGMENT_VALUES, SegmentDecoder, SegmentEncoder, Segments

SIZE = 2 * SEGMENT_VALUES + 1000  # three segments, the last one short
FP32 = codecs.parse("fp32")


class Varying:
    """The least that a codec can be whose lengths vary with the values, and whose rounding is random."""

    name = "varying"
    bits_per_parameter = 8.0
    unbiased = True
    wants_error_feedback = False
    fixed_length = False

    def encoded_bytes(self, size: int) -> int:
        return 2 * size + 100

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        levels = np.floor(vector * 4 + rng.random(vector.size)).astype(np.int8)
        return zlib.compress(levels.tobytes())

    def decode(self, payload: bytes, size: int) -> Vector:
        levels = np.frombuffer(zlib.decompress(payload), np.int8)
        if levels.size != size:
            raise CodecError(f"{levels.size} values, not {size}")
        return levels.astype(np.float32) / 4


CODECS = [codecs.parse(name) for name in ("fp32", "fp16", "int8")] + [Varying()]
COMPOSED = [codecs.parse(name) for name in ("topk(0.1)|int4|ans", "randk(0.5)|qsgd(4)|zstd", "eden(2)")]
each_codec = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)

each_and_composed = pytest.mark.parametrize("codec", CODECS + COMPOSED, ids=lambda codec: codec.name)


def vector(size: int = SIZE) -> Vector:
    return np.random.default_rng(0).standard_normal(size, np.float32)


def decoded(codec: Codec, pieces: list[bytes], size: int = SIZE) -> Vector:
    decoder, result = SegmentDecoder(codec, size), np.full(size, np.nan, np.float32)
    for piece in pieces:
        for start, values in decoder.feed(piece):
            result[start : start + values.size] = values
    assert decoder.complete
    return result


@each_codec
@pytest.mark.parametrize("size", [0, 1, SEGMENT_VALUES - 1, SEGMENT_VALUES, SEGMENT_VALUES + 1, SIZE])
def test_a_payload_is_its_segments_encodings_one_after_the_other(codec: Codec, size: int) -> None:
    encoder = SegmentEncoder(codec, vector(size), (1, 2))
    pieces = list(encoder.pieces())
    assert len(pieces) == Segments(codec, size).count == -(-size // SEGMENT_VALUES)
    length = sum(map(len, pieces))
    assert (
        (length == encoder.segments.payload_bytes)
        if codec.fixed_length
        else (length <= encoder.segments.payload_bytes)
    )
    tolerance = {"fp32": 0.0, "fp16": 2e-3, "int8": 2e-2, "varying": 0.26}[codec.name]
    np.testing.assert_allclose(decoded(codec, pieces, size), vector(size), rtol=0, atol=tolerance)


def test_segments_cost_no_byte_where_lengths_are_fixed() -> None:
    """int8's blocks of 64 divide a segment: cut or not, its payload is equally long."""
    for name in ("fp32", "fp16", "int8"):
        codec = codecs.parse(name)
        assert Segments(codec, 797_184).payload_bytes == codec.encoded_bytes(797_184)


@each_and_composed
@given(data=st.data())
@settings(max_examples=20)
def test_it_goes_on_at_any_byte_with_the_same_bytes(codec: Codec, data: st.DataObject) -> None:
    """After a cut the client encodes again from the segment in which the server stands."""
    encoder = SegmentEncoder(codec, vector(), (7, 1))
    whole = b"".join(encoder.pieces())
    offset = data.draw(st.integers(0, len(whole)))
    assert b"".join(encoder.pieces(offset)) == whole[offset:]
    # So does one that has not come as far before: it encodes what lies before the offset too.
    fresh = SegmentEncoder(codec, vector(), (7, 1))
    assert b"".join(fresh.pieces(offset)) == whole[offset:]


@each_and_composed
def test_the_echo_is_what_the_other_end_decodes(codec: Codec) -> None:
    encoder = SegmentEncoder(codec, vector(), (7, 1))
    echo = list(encoder.echo())
    assert [piece for piece, _, _ in echo] == list(encoder.pieces())
    assert [start for _, start, _ in echo] == list(range(0, SIZE, SEGMENT_VALUES))
    heard = decoded(codec, [piece for piece, _, _ in echo])
    assert np.concatenate([values for _, _, values in echo]).tobytes() == heard.tobytes()


@each_and_composed
@given(st.lists(st.integers(0, 300_000), max_size=20))
@settings(max_examples=20)
def test_bytes_may_come_in_any_pieces(codec: Codec, cuts: list[int]) -> None:
    whole = b"".join(SegmentEncoder(codec, vector(), (1,)).pieces())
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    pieces = [whole[a:b] for a, b in pairwise(edges)]
    assert decoded(codec, pieces).tobytes() == decoded(codec, [whole]).tobytes()


def test_each_segment_of_each_payload_is_rounded_by_a_generator_of_its_own() -> None:
    flat = np.full(2 * SEGMENT_VALUES, 0.1, np.float32)
    first, second = SegmentEncoder(Varying(), flat, (1, 1)).pieces()
    assert first != second
    assert first != next(SegmentEncoder(Varying(), flat, (1, 2)).pieces())


def test_bytes_after_the_last_segment_are_refused() -> None:
    decoder = SegmentDecoder(FP32, 2)
    with pytest.raises(CodecError, match="1 bytes follow the last segment"):
        list(decoder.feed(vector(2).tobytes() + b"x"))


def test_a_segment_that_claims_to_be_too_long_is_refused_before_it_is_awaited() -> None:
    decoder = SegmentDecoder(Varying(), SIZE)
    with pytest.raises(CodecError, match="segment of 4294967295 bytes, its values make 65636 at most"):
        list(decoder.feed(b"\xff\xff\xff\xff"))


def test_a_value_that_cannot_be_encoded_says_where_it_is() -> None:
    bad = vector()
    bad[SEGMENT_VALUES + 5] = np.nan
    pieces = SegmentEncoder(FP32, bad, ()).pieces()
    next(pieces)
    with pytest.raises(CodecError, match=rf"value 5 of 32768 is nan \(from value 32768 of {SIZE} on\)"):
        next(pieces)


def test_memory_is_a_few_segments_however_long_the_vector() -> None:
    """64 segments of 128 KiB, through encoder and decoder."""
    values = vector(64 * SEGMENT_VALUES)
    tracemalloc.start()
    try:
        decoder = SegmentDecoder(FP32, values.size)
        for piece in SegmentEncoder(FP32, values, ()).pieces():
            for _ in decoder.feed(piece):
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.complete
    assert peak < 8 * 4 * SEGMENT_VALUES
