"""topk and randk: which values they keep, what the indices cost, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import codecs
from proto.codecs import CodecError
from proto.codecs.indices import decode_indices, encode_indices, most_bytes
from tests.proto.test_codecs import rng, round_trip


@given(st.integers(0, 500), st.floats(0.001, 1), st.booleans(), st.integers(0, 2**32))
def test_topk_keeps_the_largest_and_nothing_else(size: int, share: float, ties: bool, seed: int) -> None:
    vector = rng(seed).standard_normal(size, np.float32)
    vector = np.round(vector) if ties else vector
    decoded = round_trip(f"topk({share:.4f})|fp32", vector)
    kept = min(size, max(1, round(float(f"{share:.4f}") * size)))
    # A stable sort has the first of equal magnitudes first.
    largest = np.argsort(-np.abs(vector), kind="stable")[:kept]
    expected = np.zeros(size, np.float32)
    expected[largest] = vector[largest]
    np.testing.assert_array_equal(decoded, expected)


@given(st.integers(1, 500), st.integers(0, 2**32))
def test_randk_keeps_values_at_random_and_scales_them_up(size: int, seed: int) -> None:
    decoded = round_trip("randk(0.2)|fp32", np.ones(size, np.float32), seed)
    kept = max(1, round(0.2 * size))
    assert np.count_nonzero(decoded) == kept
    assert decoded[decoded != 0] == pytest.approx(size / kept)


def test_randk_chooses_every_value_equally_often_and_anew_each_time() -> None:
    codec, generator = codecs.parse("randk(0.25)|fp32"), rng()
    counts = np.zeros(40)
    for _ in range(400):
        counts += codec.decode(codec.encode(np.ones(40, np.float32), generator), 40) != 0
    deviations = (counts - 100) / math.sqrt(400 * 0.25 * 0.75)
    assert np.abs(deviations).max() < 4.5
    assert deviations.std() > 0.5


@given(st.integers(0, 2000), st.data())
def test_any_indices_come_back_within_the_announced_length(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, size))
    crowded = data.draw(st.booleans())
    seed = data.draw(st.integers(0, 2**32))
    chosen = np.arange(size)[-count:] if crowded else rng(seed).choice(size, count, replace=False)
    indices = np.sort(chosen[:count])
    payload = encode_indices(indices, size)
    assert len(payload) <= most_bytes(count, size)
    np.testing.assert_array_equal(decode_indices(payload, count, size), indices)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.25, 0.5])
def test_indices_cost_little_more_than_their_entropy(share: float) -> None:
    size = 2**17
    indices = np.sort(rng().choice(size, round(share * size), replace=False))
    entropy = -share * math.log2(share) - (1 - share) * math.log2(1 - share)
    assert 8 * len(encode_indices(indices, size)) / size <= 1.02 * entropy


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"", "0 indices in 0 bytes, not 3"),
        (b"\0", "0 indices in 1 bytes, not 3"),
        (b"\0\0", "0 indices in 2 bytes, not 3"),
        (b"\0\xff", "8 indices in 2 bytes, not 3"),
        (b"\0\0\0", "3 bytes of indices, 3 of 20 make 2"),
        (b"\xff\x0e", "index 27 of 20 values"),
    ],
)
def test_indices_that_no_encoder_makes_are_refused(payload: bytes, complaint: str) -> None:
    with pytest.raises(CodecError, match=complaint):
        decode_indices(payload, 3, 20)


def test_bytes_after_the_last_index_are_refused() -> None:
    payload = encode_indices(np.arange(3), 200)
    assert len(payload) < most_bytes(3, 200)
    with pytest.raises(CodecError, match="3 indices in 4 bytes, not 3"):
        decode_indices(payload + b"\0", 3, 200)


def test_a_length_that_reaches_beyond_the_payload_is_refused() -> None:
    with pytest.raises(CodecError, match="10 bytes end before the values do"):
        codecs.parse("topk(0.1)").decode(b"\xff\xff\xff\xff" + bytes(6), 1000)
