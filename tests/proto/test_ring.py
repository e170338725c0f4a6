"""The common grid: codes that can be added, and the packing of wide symbols."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codecs
from proto.codecs.ring import Ring, ring_bits
from proto.codecs.wide import pack_wide, unpack_wide, wide_fields


@given(bits=st.integers(1, 32), count=st.integers(0, 100), seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_wide_symbols_are_packed_without_gaps_and_come_back(bits: int, count: int, seed: int) -> None:
    symbols = np.random.default_rng(seed).integers(0, 2**bits, count, np.uint32)
    fields = wide_fields(count, bits)
    packed = pack_wide(symbols, bits)
    assert len(packed) == sum(field.bytes for field in fields) <= bits * count / 8 + 1
    cuts = np.cumsum([0, *(field.bytes for field in fields)])
    raw = np.frombuffer(packed, np.uint8)
    parts = [raw[start:stop] for start, stop in pairwise(cuts)]
    np.testing.assert_array_equal(unpack_wide(parts, bits, count), symbols)


@pytest.mark.parametrize("name", ["ring(2,0.5)", "ring(8,0.01)", "ring(12,1.0)", "ring(16,0.25)"])
def test_a_value_becomes_a_neighbour_on_the_grid_and_its_mean_is_the_value(name: str) -> None:
    codec = codecs.parse(name)
    assert isinstance(codec, Ring) and codec.name == name
    values = np.linspace(-codec.range, codec.range, 41, dtype=np.float32)
    many = np.tile(values, 2000)
    decoded = codec.decode(codec.encode(many, np.random.default_rng(0)), many.size)
    error = (decoded - many).reshape(-1, 41)
    assert np.abs(error).max() <= codec.step * 1.001
    # A mean of 2,000 errors of at most half a step's deviation: five of its own.
    assert np.abs(error.mean(axis=0)).max() < 5 * codec.step / 2 / 2000**0.5
    assert codec.bits_per_parameter == codec.bits


def test_what_lies_beyond_the_range_is_clipped_and_counted() -> None:
    codec = Ring(8, 0.5)
    values = np.array([-3, -0.5, 0.1, 0.6, 100], np.float32)
    decoded = codec.decode(codec.encode(values, np.random.default_rng(0)), values.size)
    np.testing.assert_allclose(decoded[[0, 1, 3, 4]], [-0.5, -0.5, 0.5, 0.5], rtol=1e-6)
    assert codec.clipped(values) == 3
    assert codec.clipped(values, scale=0.5) == 2


@pytest.mark.parametrize("name", ["ring(4,1)|ans", "ring(12,1)|zstd"])
def test_a_lossless_stage_may_follow(name: str) -> None:
    codec = codecs.parse(name)
    values = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    plain = codecs.parse(name.split("|")[0])
    payload = codec.encode(values, np.random.default_rng(1))
    expected = plain.decode(plain.encode(values, np.random.default_rng(1)), 1000)
    np.testing.assert_array_equal(codec.decode(payload, 1000), expected)


@pytest.mark.parametrize("bits", [2, 8, 16])
@pytest.mark.parametrize("devices", [2, 3, 4, 5, 64, 65, 1000])
def test_the_largest_codes_of_all_devices_fit_into_the_ring_and_no_smaller_one_is_enough(
    bits: int, devices: int
) -> None:
    largest = devices * 2 * Ring(bits, 1.0).half
    assert largest < 2 ** ring_bits(bits, devices)
    assert devices * (2**bits - 1) >= 2 ** (ring_bits(bits, devices) - 1) or bits == 2
