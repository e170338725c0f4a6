"""Codecs: what each costs in bytes, how far off it may be, and what it refuses.

The bounds here are the contract that `fedcell bench codecs` reports; none of them is an average.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codecs
from proto.adapter import Vector
from proto.codecs import CodecError
from proto.codecs.int8 import BLOCK

NAMES = ("fp32", "fp16", "int8")
SD15_RANK4 = 797_184  # values of Stable Diffusion v1.5's LoRA adapter at rank 4


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def round_trip(name: str, vector: Vector) -> Vector:
    codec = codecs.parse(name)
    decoded = codec.decode(codec.encode(vector, rng()), vector.size)
    assert decoded.shape == vector.shape
    assert decoded.dtype == np.float32
    return decoded


@st.composite
def vectors(draw: st.DrawFn, largest_exponent: int = 30) -> Vector:
    """0 to 1000 values of both signs; each block of 64 has its own magnitude, 1e-30 and up, or is zero."""
    size = draw(st.integers(0, 1000))
    blocks = -(-size // BLOCK)
    exponents = draw(st.lists(st.integers(-30, largest_exponent), min_size=blocks, max_size=blocks))
    zeros = draw(st.lists(st.booleans(), min_size=blocks, max_size=blocks))
    scale = np.array([0.0 if z else 10.0**e for e, z in zip(exponents, zeros, strict=True)])
    values = np.random.default_rng(draw(st.integers(0, 2**32))).uniform(-1, 1, size)
    return (values * np.repeat(scale, BLOCK)[:size]).astype(np.float32)


@given(vectors())
def test_fp32_is_exact_to_the_bit(vector: Vector) -> None:
    assert round_trip("fp32", vector).tobytes() == vector.tobytes()


def test_fp32_keeps_the_extremes_of_float32() -> None:
    info = np.finfo(np.float32)
    vector = np.array([0.0, -0.0, info.max, -info.max, info.tiny, info.smallest_subnormal], np.float32)
    assert round_trip("fp32", vector).tobytes() == vector.tobytes()


@given(vectors(largest_exponent=4))
def test_fp16_is_off_by_at_most_half_a_unit_in_the_last_place(vector: Vector) -> None:
    """2^-11 of the value, or 2^-25 where fp16 is subnormal (below 6.1e-5)."""
    error = np.abs(round_trip("fp16", vector).astype(np.float64) - vector)
    assert (error <= np.maximum(2.0**-11 * np.abs(vector.astype(np.float64)), 2.0**-25)).all()


@given(vectors())
def test_int8_is_off_by_at_most_half_a_step_of_its_own_block(vector: Vector) -> None:
    """A step is the block's peak / 127, at most 2^-7 more as the scale is rounded up to bfloat16.

    The bound is per block of 64: a huge block does not spoil a tiny neighbour.
    """
    error = np.abs(round_trip("int8", vector).astype(np.float64) - vector)
    for start in range(0, vector.size, BLOCK):
        peak = float(np.abs(vector[start : start + BLOCK]).max())
        step = peak / 127 * (1 + 2.0**-7)
        assert error[start : start + BLOCK].max() <= step / 2 * (1 + 1e-5)


def test_int8_never_clips_the_largest_value_of_a_block() -> None:
    """Rounding a scale down would leave the peak outside +-127 steps; every mantissa is tried."""
    peaks = np.linspace(1, 2, 4096, dtype=np.float32)
    vector = np.zeros((peaks.size, BLOCK), np.float32)
    vector[:, 0], vector[:, 1] = peaks, -peaks
    decoded = round_trip("int8", vector.reshape(-1)).reshape(vector.shape)
    step = peaks / 127 * (1 + 2.0**-7)
    assert (np.abs(decoded - vector).max(axis=1) <= step / 2 * (1 + 1e-5)).all()


def test_int8_turns_values_beneath_its_smallest_scale_into_zeros() -> None:
    vector = np.full(BLOCK, 1e-40, np.float32)
    assert not round_trip("int8", vector).any()


@pytest.mark.parametrize("name", NAMES)
@given(vector=vectors(largest_exponent=4))
@settings(max_examples=50)
def test_a_payload_is_exactly_as_long_as_announced(name: str, vector: Vector) -> None:
    codec = codecs.parse(name)
    assert len(codec.encode(vector, rng())) == codec.encoded_bytes(vector.size)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_is_deterministic_and_leaves_its_input_alone(name: str) -> None:
    vector = rng().standard_normal(1000, np.float32)
    before = vector.copy()
    codec = codecs.parse(name)
    assert codec.encode(vector, rng()) == codec.encode(vector, rng())
    np.testing.assert_array_equal(vector, before)


@pytest.mark.parametrize(
    ("name", "bits", "least_nmse", "most_nmse"),
    [("fp32", 32.0, 0.0, 0.0), ("fp16", 16.0, 1e-8, 5e-8), ("int8", 8.25, 3e-5, 4e-5)],
)
def test_bits_and_error_on_gaussian_values(
    name: str, bits: float, least_nmse: float, most_nmse: float
) -> None:
    """Normalised mean square error on N(0, 1), in the size of a real adapter; as in REFERENCE, section 4."""
    vector = rng().standard_normal(SD15_RANK4, np.float32)
    codec = codecs.parse(name)
    error = round_trip(name, vector).astype(np.float64) - vector
    assert least_nmse <= float((error**2).sum() / (vector.astype(np.float64) ** 2).sum()) <= most_nmse
    assert codec.bits_per_parameter == bits
    assert 8 * codec.encoded_bytes(SD15_RANK4) / SD15_RANK4 == pytest.approx(bits, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_the_first_is_named(name: str, bad: float) -> None:
    vector = np.zeros(200, np.float32)
    vector[[123, 150]] = bad
    with pytest.raises(CodecError, match=f"value 123 of 200 is {bad}"):
        codecs.parse(name).encode(vector, rng())


@pytest.mark.parametrize(("name", "beyond"), [("fp16", 65_505.0), ("fp16", -1e30), ("int8", 2e38)])
def test_values_out_of_a_codecs_range_are_refused(name: str, beyond: float) -> None:
    with pytest.raises(CodecError, match=f"{name}: value .* is beyond"):
        codecs.parse(name).encode(np.array([1.0, beyond], np.float32), rng())


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=50)
def test_a_payload_of_another_length_is_refused(name: str, data: st.DataObject) -> None:
    """A byte too many or too few is never guessed at."""
    size = data.draw(st.integers(0, 300))
    codec = codecs.parse(name)
    right = codec.encoded_bytes(size)
    wrong = data.draw(st.integers(0, right + 50).filter(lambda length: length != right))
    with pytest.raises(CodecError, match=f"payload of {wrong} bytes, {size} values make {right}"):
        codec.decode(bytes(wrong), size)


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_with_a_flipped_bit_is_refused_or_decodes_to_finite_values(name: str) -> None:
    """decode: "Raises CodecError unless the payload is one that encode can have made"; encode makes no NaN.

    Every bit of every value and scale, at magnitudes where a flipped exponent bit leaves the finite range.
    """
    codec = codecs.parse(name)
    for peak in (1e-6, 1.0, 2.0, 60_000.0):
        payload = codec.encode(np.array([peak, -peak, peak / 2], np.float32), rng())
        for bit in range(8 * len(payload)):
            damaged = bytearray(payload)
            damaged[bit // 8] ^= 1 << bit % 8
            _assert_refused_or_finite(codec, bytes(damaged), 3)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=100)
def test_random_bytes_are_refused_or_decode_to_finite_values(name: str, seed: int) -> None:
    codec = codecs.parse(name)
    _assert_refused_or_finite(codec, np.random.default_rng(seed).bytes(codec.encoded_bytes(100)), 100)


def _assert_refused_or_finite(codec: codecs.Codec, payload: bytes, size: int) -> None:
    try:
        with np.errstate(all="ignore"):
            decoded = codec.decode(payload, size)
    except CodecError:
        return
    assert decoded.shape == (size,)
    assert np.isfinite(decoded).all(), f"{codec.name} made {decoded[~np.isfinite(decoded)]} of {payload!r}"


@pytest.mark.parametrize("name", NAMES)
def test_a_decoded_vector_can_be_changed_in_place(name: str) -> None:
    """It is the caller's own memory, not a read-only view of the payload."""
    decoded = round_trip(name, np.ones(10, np.float32))
    decoded += 1


@pytest.mark.parametrize("name", NAMES)
def test_a_codec_goes_by_the_name_it_is_parsed_from(name: str) -> None:
    """The server compares names: what a client writes in its header must be what the round asked for."""
    assert codecs.parse(name).name == codecs.parse(f" {name} ").name == name
