"""Codecs: what every one of them keeps to, whatever it does to the values.

The bounds here are the contract that `fedcell bench codecs` reports.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codecs
from proto.adapter import Vector
from proto.codecs import Codec, CodecError
from proto.segments import SEGMENT_VALUES, SegmentEncoder

FIXED = (
    *("fp32", "fp16", "bf16", "int8", "int4", "int2", "nf4", "sign"),
    *("int8(stochastic)", "int4(stochastic)", "int2(stochastic)"),
    *("qsgd(2)", "qsgd(3)", "qsgd(4)", "qsgd(8)", "eden(1)", "eden(2)", "eden(3)", "eden(4)"),
    *("randk(0.1)|fp16", "randk(0.25)|int8(stochastic)"),
)
VARYING = (
    *("topk(0.1)|fp16", "topk(1.0)|fp32", "topk(0.3)|sign", "topk(0.01)|int4"),
    *("fp32|zstd", "int4|zstd", "topk(0.1)|int4|zstd"),
    *("fp32|ans", "bf16|ans", "int8|ans", "int2|ans", "qsgd(3)|ans", "qsgd(4)|ans", "eden(2)|ans"),
    *("topk(0.1)|int4|ans", "randk(0.5)|qsgd(4)|ans"),
    *("ecq(1.5)", "ecq(4)", "ecq(1,unbiased)", "ecq(3,unbiased)", "topk(0.1)|ecq(2)"),
)
NAMES = FIXED + VARYING
each_codec = pytest.mark.parametrize("name", NAMES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def round_trip(name: str, vector: Vector, seed: int = 0) -> Vector:
    codec = codecs.parse(name)
    decoded = codec.decode(codec.encode(vector, rng(seed)), vector.size)
    assert decoded.shape == vector.shape
    assert decoded.dtype == np.float32
    return decoded


@st.composite
def vectors(draw: st.DrawFn, largest_exponent: int = 30) -> Vector:
    """0 to 1000 values of both signs; each block of 64 has its own magnitude, 1e-30 and up, or is zero."""
    size = draw(st.integers(0, 1000))
    blocks = -(-size // 64)
    exponents = draw(st.lists(st.integers(-30, largest_exponent), min_size=blocks, max_size=blocks))
    zeros = draw(st.lists(st.booleans(), min_size=blocks, max_size=blocks))
    scale = np.array([0.0 if z else 10.0**e for e, z in zip(exponents, zeros, strict=True)])
    values = rng(draw(st.integers(0, 2**32))).uniform(-1, 1, size)
    return (values * np.repeat(scale, 64)[:size]).astype(np.float32)


@each_codec
@given(vector=vectors(largest_exponent=3))
@settings(max_examples=15)
def test_a_payload_is_no_longer_than_announced_and_decodes(name: str, vector: Vector) -> None:
    codec = codecs.parse(name)
    payload = codec.encode(vector, rng())
    most = codec.encoded_bytes(vector.size)
    assert len(payload) == most if codec.fixed_length else len(payload) <= most
    assert codec.fixed_length == (name in FIXED)
    decoded = codec.decode(payload, vector.size)
    assert decoded.shape == vector.shape
    assert decoded.dtype == np.float32
    assert np.isfinite(decoded).all()


@each_codec
def test_encoding_is_deterministic_and_leaves_its_input_alone(name: str) -> None:
    vector = rng().standard_normal(1000, np.float32)
    before = vector.copy()
    codec = codecs.parse(name)
    payload = codec.encode(vector, rng())
    assert payload == codec.encode(vector, rng())
    np.testing.assert_array_equal(vector, before)
    assert codec.decode(payload, 1000).tobytes() == codecs.parse(name).decode(payload, 1000).tobytes()


@each_codec
def test_bits_per_parameter_are_those_on_the_wire_of_gaussian_values(name: str) -> None:
    codec = codecs.parse(name)
    vector = rng(1).standard_normal(4 * SEGMENT_VALUES, np.float32)
    length = sum(map(len, SegmentEncoder(codec, vector, (1,)).pieces()))
    assert codec.bits_per_parameter == pytest.approx(8 * length / vector.size, rel=0.02)


@pytest.mark.parametrize(
    ("name", "bits", "nmse"),
    [
        *(("fp32", 32.0, 0.0), ("fp16", 16.0, 4.3e-8), ("bf16", 16.0, 2.7e-6)),
        *(("int8", 8.25, 3.6e-5), ("int4", 4.25, 1.16e-2), ("int2", 2.25, 0.263), ("nf4", 4.25, 8.4e-3)),
        *(("qsgd(8)", 8.06, 5.3e-3), ("qsgd(4)", 4.06, 1.58)),
        *(("qsgd(8)|ans", 4.6, 5.3e-3), ("qsgd(4)|ans", 1.1, 1.58)),
        *(("eden(1)", 1.02, 0.571), ("eden(2)", 2.02, 0.133), ("eden(3)", 3.02, 0.0358)),
        *(("eden(4)", 4.02, 0.0096), ("sign", 1.01, 0.363)),
        *(("topk(0.1)|fp16", 2.07, 0.56), ("topk(0.01)|fp16", 0.242, 0.915), ("randk(0.1)|fp16", 1.6, 9.0)),
    ],
)
def test_bits_and_error_on_gaussian_values(name: str, bits: float, nmse: float) -> None:
    """Normalised mean square error on N(0, 1): what the literature and the codecs' own files promise."""
    vector = rng(3).standard_normal(4 * SEGMENT_VALUES, np.float32)
    error = round_trip(name, vector, seed=4).astype(np.float64) - vector
    assert (error**2).sum() / (vector.astype(np.float64) ** 2).sum() == pytest.approx(nmse, rel=0.03)
    assert codecs.parse(name).bits_per_parameter == pytest.approx(bits, rel=0.01)


def test_which_codecs_are_unbiased_and_which_want_error_feedback() -> None:
    rounding = ("fp32", "(stochastic)", "qsgd", "eden", "unbiased")
    unbiased = {name for name in NAMES if codecs.parse(name).unbiased}
    assert unbiased == {name for name in NAMES if any(r in name for r in rounding) and "topk" not in name}
    wanting = {name for name in NAMES if codecs.parse(name).wants_error_feedback}
    assert {name for name in NAMES if name.startswith("topk")} <= wanting
    assert {"int4", "int2", "nf4", "sign", "int4|zstd", "int2|ans", "ecq(1.5)"} <= wanting
    assert not wanting & {"fp16", "int8", "int8|ans", *unbiased}


@pytest.mark.parametrize("name", [name for name in FIXED if codecs.parse(name).unbiased])
def test_the_mean_over_the_generator_is_the_vector(name: str) -> None:
    """200 encodings of skewed values: the mean's error is what the variance of one explains, and no more."""
    vector = rng(5).exponential(1, 600).astype(np.float32)
    codec = codecs.parse(name)
    generator = rng(6)
    decoded = np.stack([codec.decode(codec.encode(vector, generator), 600) for _ in range(200)])
    error = decoded.mean(axis=0, dtype=np.float64) - vector
    variance = decoded.var(axis=0, dtype=np.float64).sum() / 200
    assert (error**2).sum() <= 1.3 * variance + 1e-9
    # A bias that all values have in common shows in their sum, long before it shows in one of them.
    sums = decoded.sum(axis=1, dtype=np.float64)
    assert abs(sums.mean() - vector.sum(dtype=np.float64)) <= 3.5 * sums.std() / 200**0.5 + 1e-3


@each_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_the_first_is_named(name: str, bad: float) -> None:
    vector = np.zeros(200, np.float32)
    vector[[123, 150]] = bad
    with pytest.raises(CodecError, match=f"value 123 of 200 is {bad}"):
        codecs.parse(name).encode(vector, rng())


@pytest.mark.parametrize("name", ["fp16", "bf16", "int8", "nf4", "qsgd(4)", "eden(2)", "sign"])
def test_values_beyond_what_a_codec_carries_are_refused(name: str) -> None:
    vector = np.full(100, np.finfo(np.float32).max, np.float32)
    with pytest.raises(CodecError, match=r"value 3\.40282e\+38 is beyond"):
        codecs.parse(name).encode(vector, rng())


@pytest.mark.parametrize("name", ["int8", "int2", "nf4", "qsgd(2)", "qsgd(8)", "eden(1)", "eden(4)", "sign"])
def test_the_largest_values_that_a_codec_takes_come_back(name: str) -> None:
    """Nothing overflows on the way, neither in a block's sums nor in its scale."""
    vector = np.full(5000, 1e34, np.float32)
    decoded = round_trip(name, vector)
    assert decoded.mean(dtype=np.float64) == pytest.approx(1e34, rel=0.1)
    spike = np.zeros(5000, np.float32)
    spike[4000] = -1e34
    assert np.abs(round_trip(name, spike)).max() <= 1.01e34


@pytest.mark.parametrize("name", FIXED)
def test_a_payload_of_another_length_is_refused(name: str) -> None:
    """A byte too many or too few is never guessed at."""
    codec = codecs.parse(name)
    for size in (0, 1, 64, 300):
        right = codec.encoded_bytes(size)
        for wrong in {0, 1, right // 2, right - 1, right + 1, 2 * right} - {right, -1}:
            with pytest.raises(CodecError):
                codec.decode(bytes(wrong), size)


@pytest.mark.parametrize("name", VARYING)
def test_a_payload_that_is_cut_short_or_too_long_is_refused(name: str) -> None:
    codec = codecs.parse(name)
    payload = codec.encode(rng().standard_normal(100, np.float32), rng())
    for length in range(len(payload)):
        with pytest.raises(CodecError):
            codec.decode(payload[:length], 100)
    with pytest.raises(CodecError):
        codec.decode(payload + b"\0", 100)


@each_codec
def test_a_payload_with_a_flipped_bit_is_refused_or_decodes_to_finite_values(name: str) -> None:
    """decode: "Raises CodecError unless the payload is one that encode can have made"; encode makes no NaN.

    Every bit of every value and scale, at magnitudes where a flipped exponent bit leaves the finite range.
    """
    codec = codecs.parse(name)
    for peak in (1e-6, 6000.0):
        payload = codec.encode(np.array([peak, -peak, peak / 2], np.float32), rng())
        for bit in range(8 * len(payload)):
            damaged = bytearray(payload)
            damaged[bit // 8] ^= 1 << bit % 8
            assert_refused_or_finite(codec, bytes(damaged), 3)


@each_codec
@given(data=st.data())
@settings(max_examples=15)
def test_a_damaged_payload_is_refused_or_decodes_to_finite_values(name: str, data: st.DataObject) -> None:
    """Any bytes at all over a part of a sound payload, or over all of it."""
    codec = codecs.parse(name)
    payload = codec.encode(rng().standard_normal(400, np.float32), rng())
    start = data.draw(st.integers(0, len(payload)))
    length = data.draw(st.sampled_from([1, 2, 4, 16, len(payload)]))
    noise = rng(data.draw(st.integers(0, 2**32))).bytes(length)
    damaged = payload[:start] + noise + payload[start + length :]
    assert_refused_or_finite(codec, damaged[: len(payload)], 400)


def assert_refused_or_finite(codec: Codec, payload: bytes, size: int) -> None:
    try:
        with np.errstate(all="raise", under="ignore"):
            decoded = codec.decode(payload, size)
    except CodecError:
        return
    assert decoded.shape == (size,)
    assert np.isfinite(decoded).all(), f"{codec.name} made {decoded[~np.isfinite(decoded)]} of {payload!r}"


@each_codec
def test_a_decoded_vector_can_be_changed_in_place(name: str) -> None:
    """It is the caller's own memory, not a read-only view of the payload."""
    decoded = round_trip(name, np.ones(10, np.float32))
    decoded += 1
