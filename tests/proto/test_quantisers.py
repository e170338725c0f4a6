"""Quantisers: how far off each value may be. Bounds are of single values or blocks, none is an average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codecs
from proto.adapter import Vector
from proto.codecs import CodecError
from proto.codecs.absmax import BLOCK
from proto.codecs.hadamard import hadamard
from proto.codecs.packing import pack, packed_bytes, unpack
from tests.proto.test_codecs import rng, round_trip, vectors

SCALE = 1 + 2.0**-7  # A bfloat16 scale that was rounded up is at most so much too large.
SLACK = 1 + 1e-4  # Of a step, for float32's own rounding.


def errors(name: str, vector: Vector) -> Vector:
    error: Vector = np.abs(round_trip(name, vector).astype(np.float64) - vector)
    return error


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
    bound = np.maximum(2.0**-11 * np.abs(vector.astype(np.float64)), 2.0**-25)
    assert (errors("fp16", vector) <= bound).all()


@given(vectors())
def test_bf16_is_off_by_at_most_half_a_unit_in_the_last_place(vector: Vector) -> None:
    assert (errors("bf16", vector) <= 2.0**-8 * np.abs(vector.astype(np.float64))).all()


def test_bf16_rounds_ties_to_even() -> None:
    ties = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8], np.float32)
    assert round_trip("bf16", ties).tolist() == [1, 1 + 2.0**-6, -1]


def test_bf16_refuses_what_would_become_infinite() -> None:
    largest = np.array([float.fromhex("0x1.fep127")], np.float32)
    np.testing.assert_array_equal(round_trip("bf16", largest), largest)
    with pytest.raises(CodecError, match="is beyond"):
        round_trip("bf16", np.nextafter(largest, np.inf, dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "half", "steps"),
    [
        *(("int8", 127, 0.5), ("int4", 7, 0.5), ("int2", 1.5, 0.5)),
        *(("int8(stochastic)", 127, 1), ("int4(stochastic)", 7, 1), ("int2(stochastic)", 1.5, 1)),
        ("nf4", 1, 0.5 * (1 - 0.6961928)),  # Half of the widest gap between levels.
    ],
)
@given(vector=vectors())
@settings(max_examples=30)
def test_a_value_is_off_by_at_most_so_many_steps_of_its_own_block(
    name: str, half: float, steps: float, vector: Vector
) -> None:
    """A step is the block's peak / half. A huge block does not spoil a tiny neighbour.

    Of nf4's levels 1 lies outermost, and a scale that is too large moves all of them outwards.
    """
    error = errors(name, vector)
    for start in range(0, vector.size, BLOCK):
        peak = float(np.abs(vector[start : start + BLOCK]).max())
        assert error[start : start + BLOCK].max() <= steps * peak / half * SCALE * SLACK


@pytest.mark.parametrize(("name", "half"), [("int8", 127), ("int4", 7), ("int2", 1.5)])
def test_the_largest_value_of_a_block_is_never_clipped(name: str, half: float) -> None:
    """Rounding a scale down would leave the peak outside of the levels; every mantissa is tried."""
    peaks = np.linspace(1, 2, 4096, dtype=np.float32)
    vector = np.zeros((peaks.size, BLOCK), np.float32)
    vector[:, 0], vector[:, 1] = peaks, -peaks
    decoded = round_trip(name, vector.reshape(-1)).reshape(vector.shape)[:, :2]
    assert (np.abs(decoded - vector[:, :2]).max(axis=1) <= peaks / half / 2 * SCALE * SLACK).all()


@pytest.mark.parametrize("name", ["int8", "int4", "int2", "nf4", "qsgd(4)", "eden(2)"])
def test_zeros_and_values_beneath_the_smallest_scale_become_zeros(name: str) -> None:
    assert not round_trip(name, np.zeros(BLOCK, np.float32)).any()
    assert not round_trip(name, np.full(BLOCK, 1e-40, np.float32)).any()


def test_zero_stays_zero_among_others() -> None:
    vector = np.zeros(BLOCK, np.float32)
    vector[7] = 1
    for name in ("int8", "int4", "int8(stochastic)", "int4(stochastic)", "nf4", "qsgd(4)"):
        assert np.flatnonzero(round_trip(name, vector)).tolist() == [7], name


@given(vectors())
def test_qsgd_is_off_by_at_most_a_step_of_its_buckets_norm(vector: Vector) -> None:
    error = errors("qsgd(4)", vector)
    for start in range(0, vector.size, 512):
        norm = float(np.linalg.norm(vector[start : start + 512].astype(np.float64)))
        assert error[start : start + 512].max() <= norm / 7 * SLACK


@given(vectors())
def test_sign_keeps_signs_and_the_mean_magnitude(vector: Vector) -> None:
    decoded = round_trip("sign", vector).astype(np.float64)
    mean = np.abs(vector.astype(np.float64)).mean() if vector.size else 0
    assert (decoded[vector > 0] >= 0).all()
    assert (decoded[vector < 0] <= 0).all()
    assert np.abs(decoded) == pytest.approx(mean, rel=2.0**-8)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 5, 64, 100, 2048, 5000])
def test_edens_error_is_the_gaussians_whatever_the_vector_looks_like(bits: int, size: int) -> None:
    """The error of Lloyd and Max's quantiser, D, becomes D / (1 - D) with the unbiased scale.

    A rotated spike is not Gaussian at all, but then its levels are all but one, and the scale corrects them.
    """
    promised = {1: 0.571, 2: 0.133, 3: 0.0358, 4: 0.0096}[bits]
    spike = np.zeros(size, np.float32)
    spike[size // 2] = 1e-6
    skewed = rng().exponential(1e6, size).astype(np.float32)
    for vector in (spike, skewed, np.ones(size, np.float32)):
        error = errors(f"eden({bits})", vector)
        assert (error**2).sum() <= 1.5 * promised * (vector.astype(np.float64) ** 2).sum()


def test_edens_blocks_waste_little_on_padding() -> None:
    """A segment of 2^15 values has none; a tail of any length costs at most 5 % or a block of 64."""
    codec = codecs.parse("eden(4)")
    assert codec.encoded_bytes(2**15) == 8 + 2**14 + 4 * 16
    for size in range(1, 6000, 7):
        assert codec.encoded_bytes(size) <= 8 + max(1.05 * size, size + 64) / 2 + 4 * (size // 64 + 1)


def test_the_hadamard_transform_is_its_definition() -> None:
    """H(2n) = [[H(n), H(n)], [H(n), -H(n)]] (Sylvester)."""
    matrix = np.ones((1, 1), np.float32)
    for _ in range(5):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    columns = rng().standard_normal((32, 3), np.float32)
    np.testing.assert_allclose(hadamard(columns.copy()), matrix @ columns, atol=1e-5)
    assert hadamard(np.zeros((8, 0), np.float32)).shape == (8, 0)


@given(st.integers(1, 8), st.integers(0, 200), st.integers(0, 2**32))
def test_symbols_are_packed_without_gaps_lowest_bits_first(bits: int, count: int, seed: int) -> None:
    symbols = rng(seed).integers(0, 2**bits, count, np.uint8)
    number = sum(int(symbol) << bits * i for i, symbol in enumerate(symbols))
    packed = pack(symbols, bits)
    assert packed == number.to_bytes(packed_bytes(count, bits), "little")
    np.testing.assert_array_equal(unpack(np.frombuffer(packed, np.uint8), bits, count), symbols)


@pytest.mark.parametrize(
    ("name", "scale", "complaint"),
    [
        ("int8", b"\xff\x7f", "a block's scale is negative, too large or not a number"),  # NaN
        ("int4", b"\x80\xbf", "a block's scale is negative"),  # -1
        ("nf4", b"\x7f\x7f", "a block's scale is negative, too large"),  # 3.4e38
        ("sign", b"\x80\x7f", "a block's scale is negative, too large"),  # infinite
        ("qsgd(4)", b"\0\0\xc0\x7f", "a block's scale is negative, too large or not a number"),
        ("eden(2)", b"\0\0\x80\xbf", "a block's scale is negative"),
    ],
)
def test_a_scale_that_no_encoder_makes_is_refused(name: str, scale: bytes, complaint: str) -> None:
    codec = codecs.parse(name)
    payload = codec.encode(np.ones(10, np.float32), rng())
    with pytest.raises(CodecError, match=complaint):
        codec.decode(payload[: -len(scale)] + scale, 10)


def test_a_level_that_no_encoder_makes_is_refused() -> None:
    codec = codecs.parse("int4")
    with pytest.raises(CodecError, match="int4: level 15 of 14"):
        codec.decode(b"\x0f" + codec.encode(np.ones(2, np.float32), rng())[1:], 2)
