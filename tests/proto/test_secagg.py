"""Keys, shares and masks: what both ends of secure aggregation rely on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from Crypto.Protocol.SecretSharing import Shamir
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codecs
from proto.codecs import CodecError
from proto.codecs.ring import Ring
from proto.secagg.keys import KeyPair, SecretError, purpose, seal, unseal
from proto.secagg.masked import Masked, MaskedEncoder, grid_of
from proto.secagg.masks import Masks
from proto.secagg.shares import combine, split
from proto.segments import SEGMENT_VALUES, SegmentDecoder

SEEDS = [(1, bytes(16)), (-1, bytes(range(16))), (1, b"0123456789abcdef")]


def mask(masks: Masks, start: int, count: int) -> np.ndarray:
    elements = np.zeros(count, np.uint32)
    masks.add(elements, start)
    return elements


def test_two_pairs_agree_and_a_third_or_another_purpose_does_not() -> None:
    one, two, three = KeyPair(), KeyPair(), KeyPair()
    use = purpose("mask", "run-7", 3)
    assert one.agree(two.public, use) == two.agree(one.public, use)
    assert len({one.agree(two.public, use), one.agree(three.public, use)}) == 2
    assert one.agree(two.public, use) != one.agree(two.public, purpose("mask", "run-7", 4))
    assert KeyPair(one.seed).public == one.public


@pytest.mark.parametrize("public", [bytes(32), b"short"])
def test_what_is_no_public_key_is_refused(public: bytes) -> None:
    with pytest.raises(SecretError, match="no public key"):
        KeyPair().agree(public, b"mask")


def test_a_sealed_message_is_read_by_its_key_as_what_it_was_sealed_for_and_whole() -> None:
    key, other = bytes(16), bytes(range(16))
    sealed = seal(key, b"message", b"from 1 to 2")
    assert unseal(key, sealed, b"from 1 to 2") == b"message"
    assert b"message" not in sealed and sealed != seal(key, b"message", b"from 1 to 2")
    damaged = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for args in (
        (other, sealed, b"from 1 to 2"),
        (key, sealed, b"from 2 to 1"),
        (key, damaged, b"from 1 to 2"),
    ):
        with pytest.raises(SecretError):
            unseal(*args)


def test_any_threshold_of_shares_gives_the_secret_and_fewer_give_none() -> None:
    secret = KeyPair().seed
    shares = dict(enumerate(split(secret, 3, 5), start=1))
    for chosen in itertools.combinations(shares, 3):
        assert combine({number: shares[number] for number in chosen}, 3) == secret
    assert combine(shares, 3) == secret
    two = {1: shares[1], 4: shares[4]}
    assert combine(two, 2) != secret
    with pytest.raises(SecretError, match="2 shares of a secret that takes 3"):
        combine(two, 3)


@given(st.data())
@settings(max_examples=25)
def test_shares_are_combined_as_by_the_library_that_made_them(data: st.DataObject) -> None:
    secret = data.draw(st.binary(min_size=16, max_size=16))
    count = data.draw(st.integers(2, 40))
    threshold = data.draw(st.integers(2, count))
    shares = dict(enumerate(split(secret, threshold, count), start=1))
    chosen = data.draw(st.lists(st.sampled_from(sorted(shares)), min_size=threshold, unique=True))
    some = {number: shares[number] for number in chosen}
    assert combine(some, threshold) == secret
    if threshold < 9:  # The library's own takes its time.
        assert Shamir.combine(sorted(some.items())[:threshold]) == secret


@pytest.mark.parametrize("ring_bits", [10, 16, 17, 32])
def test_a_mask_is_the_same_in_whatever_pieces_it_is_made(ring_bits: int) -> None:
    masks = Masks(SEEDS, ring_bits)
    whole = mask(masks, 0, 1000)
    pieces = [mask(masks, start, min(333, 1000 - start)) for start in range(0, 1000, 333)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert (mask(Masks([(-s, seed) for s, seed in SEEDS], ring_bits), 0, 1000) + whole == 0).all()


def test_masks_are_uniform_and_neighbours_have_nothing_in_common() -> None:
    """Chi-square over 256 cells of 65,536 values, and of pairs of neighbours; five deviations."""
    low = mask(Masks(SEEDS, 8), 0, 2**16) % 256
    for cells in (low, low[::2] // 16 * 16 + low[1::2] // 16):
        expected = cells.size / 256
        chi2 = float(((np.bincount(cells, minlength=256) - expected) ** 2 / expected).sum())
        assert abs(chi2 - 255) < 5 * (2 * 255) ** 0.5


def test_a_masked_payload_is_the_same_from_any_byte_on_and_the_sum_is_that_of_the_codes() -> None:
    grid, size = Ring(8, 1.0), 2 * SEGMENT_VALUES + 100
    codec = Masked(grid, 9)
    updates = np.random.default_rng(0).uniform(-1.5, 1.5, (2, size)).astype(np.float32)
    masks = [Masks(SEEDS, 9), Masks([(-sign, seed) for sign, seed in SEEDS], 9)]
    total, clipped = np.zeros(size, np.uint32), dict[int, int]()
    for number, update in enumerate(updates):
        encoder = MaskedEncoder(codec, update, (number,), masks=masks[number], scale=0.5, clipped=clipped)
        payload = b"".join(encoder.pieces())
        assert len(payload) == encoder.segments.payload_bytes
        for offset in (1, 40_000, len(payload) - 3):
            assert b"".join(encoder.pieces(offset)) == payload[offset:]
        for start, patterns in SegmentDecoder(codec, size).feed(payload):
            total[start : start + patterns.size] += patterns.view(np.uint32)
    assert clipped and sum(clipped.values()) == 0  # Half of 1.5 is within the range.
    expected = np.zeros(size, np.uint32)
    for number, update in enumerate(updates):
        for index, start in enumerate(range(0, size, SEGMENT_VALUES)):
            part = update[start : start + SEGMENT_VALUES]
            codes = grid.codes(part, np.random.default_rng((number, index)), 0.5)
            expected[start : start + part.size] += codes
    np.testing.assert_array_equal(total % 2**9, expected)


def test_only_a_grid_can_be_masked() -> None:
    with pytest.raises(CodecError, match=r"int8 cannot be summed under masks; ring\(BITS,RANGE\) can"):
        grid_of(codecs.parse("int8"))
    with pytest.raises(CodecError, match="9 to 32"):
        Masked(Ring(8, 1.0), 8)
