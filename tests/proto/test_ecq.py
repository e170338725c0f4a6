"""ecq: how near it is to what is possible, that it has the bits asked for, and what its parts promise."""

from __future__ import annotations

import itertools
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import codecs
from proto.adapter import Vector
from proto.codecs import CodecError, magnitudes, trellis
from proto.codecs.dither import Dither
from proto.codecs.trellis import FIXED_HALF, FIXED_ONE, Automaton, Code
from proto.segments import SEGMENT_VALUES


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def rate_and_error(name: str, vector: Vector) -> tuple[float, float]:
    """Bits a value, and the mean square error over the mean square; segment by segment."""
    codec, length, error, power = codecs.parse(name), 0, 0.0, 0.0
    for start in range(0, vector.size, SEGMENT_VALUES):
        segment = vector[start : start + SEGMENT_VALUES]
        payload = codec.encode(segment, rng(start))
        length += len(payload)
        error += float(((codec.decode(payload, segment.size).astype(np.float64) - segment) ** 2).sum())
        power += float((segment.astype(np.float64) ** 2).sum())
    return 8 * length / vector.size, error / power


def gaussian(segments: int) -> Vector:
    """Each segment's rate and error alone may be 0.006 bits off the mean."""
    return rng().standard_normal(segments * SEGMENT_VALUES, np.float32)


@pytest.mark.parametrize("bits", [0.5, 1, 1.5, 2, 3, 4, 6])
def test_gaussian_values_are_within_a_tenth_of_a_bit_of_the_bound(bits: float) -> None:
    """Shannon's D = 2^(-2R); a scalar quantiser with an ideal entropy coder is 0.25 bits above it."""
    rate, error = rate_and_error(f"ecq({bits:g})", gaussian(4))
    assert rate == pytest.approx(bits, abs=0.02)
    assert rate + 0.5 * math.log2(error) < 0.1


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_unbiased_gaussian_values_are_within_a_tenth_of_a_bit_of_their_bound(bits: float) -> None:
    """D = 1 / (2^(2R) - 1): an error that does not depend on the values cannot be less."""
    rate, error = rate_and_error(f"ecq({bits},unbiased)", gaussian(8))
    assert rate == pytest.approx(bits, abs=0.02)
    assert rate - 0.5 * math.log2(1 + 1 / error) < 0.1


def test_rows_that_differ_in_size_cost_less_than_the_bound_for_alike_ones() -> None:
    sizes = np.repeat([0.3, 1.0], SEGMENT_VALUES // 2).astype(np.float32)
    rate, error = rate_and_error("ecq(3)", sizes * gaussian(1))
    assert rate + 0.5 * math.log2(error) < -0.1


@pytest.mark.parametrize("name", ["ecq(1)", "ecq(4)", "ecq(2,unbiased)"])
@pytest.mark.parametrize("scale", [1e-37, 1e-6, 1e34])
def test_size_does_not_matter(name: str, scale: float) -> None:
    vector = np.clip(rng().standard_normal(8192, np.float32), -4, 4)
    assert rate_and_error(name, vector * np.float32(scale)) == pytest.approx(
        rate_and_error(name, vector), rel=0.02
    )


@pytest.mark.parametrize("name", ["ecq(2)", "ecq(2,unbiased)"])
def test_a_few_huge_values_travel_as_they_are_and_spoil_nothing(name: str) -> None:
    vector = rng().standard_normal(8192, np.float32)
    vector[[5, 6000]] = 1e4, -1e5
    codec = codecs.parse(name)
    decoded = codec.decode(codec.encode(vector, rng()), vector.size)
    np.testing.assert_array_equal(decoded[[5, 6000]], vector[[5, 6000]])
    assert np.abs(np.delete(decoded - vector, [5, 6000])).max() < 2


@pytest.mark.parametrize("name", ["ecq(1)", "ecq(6)", "ecq(1,unbiased)", "ecq(3,unbiased)"])
@given(
    size=st.sampled_from([1, 2, 127, 129, 1000, 33_000]),
    kind=st.sampled_from(["sign", "cauchy", "sparse", "constant", "ramp"]),
)
@settings(max_examples=12)
def test_any_values_whatsoever_fit_and_come_back(name: str, size: int, kind: str) -> None:
    generator = rng(size)
    vector = {
        "sign": lambda: generator.choice([-1.0, 1.0], size),
        "cauchy": lambda: generator.standard_cauchy(size) ** 3,
        "sparse": lambda: generator.standard_normal(size) * (generator.random(size) < 0.01),
        "constant": lambda: np.full(size, 0.7),
        "ramp": lambda: np.exp(np.linspace(-60, 60, size)),
    }[kind]().astype(np.float32)
    codec = codecs.parse(name)
    payload = codec.encode(vector, generator)
    assert len(payload) <= codec.encoded_bytes(size)
    error = codec.decode(payload, size).astype(np.float64) - vector
    assert (error**2).sum() <= 4 * (vector.astype(np.float64) ** 2).sum() + 1e-60


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ecq", r"write ecq\(bits, variant\)"),
        ("ecq(7)", "bits must be a number, 0.5 to 6, not 7"),
        ("ecq(best)", "bits must be a number"),
        ("ecq(2,biased)", "only 'unbiased' can follow, not 'biased'"),
        ("ecq(2)|ans", "ecq"),
    ],
)
def test_what_is_no_ecq(text: str, complaint: str) -> None:
    with pytest.raises(CodecError, match=complaint):
        codecs.parse(text)


def test_names_have_one_spelling() -> None:
    names = [codecs.parse(text).name for text in ("ecq(2.0)", "ecq( 1.5, unbiased )")]
    assert names == ["ecq(2)", "ecq(1.5,unbiased)"]


def damaged(**changes: object) -> bytes:
    """The payload of 4096 Gaussian values with parts of its header replaced."""
    payload = codecs.parse("ecq(2)").encode(rng().standard_normal(4096, np.float32), rng())
    names = ("step", "words", "far", "classes")
    header = dict(zip(names, struct.unpack_from("<fIHB", payload), strict=True)) | changes
    return struct.pack("<fIHB", *(header[name] for name in names)) + payload[11:]


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (damaged(step=float("nan")), "step nan"),
        (damaged(step=2.0**124), "step 2.1"),
        (damaged(step=-1.0), "step -1"),
        (damaged(step=0.0), "bytes too many"),
        (damaged(words=2**32 - 1), "payload ends"),
        (damaged(words=1), "bytes too many"),
        (damaged(far=65_535), "payload ends"),
        (damaged(classes=0), "0 classes"),
        (damaged(classes=5), "5 classes"),
        (damaged()[:11] + b"\xfe" + damaged()[12:], "a magnitude of 254"),
        (damaged()[:-4] + b"\0\0\0\0", "entropy-coded words"),
        (damaged()[:-4] + b"\1\2\3\4", "left over"),
        (bytes(10**6), "1000000 bytes, 4096 values make"),
    ],
)
def test_payloads_that_no_encoder_makes_are_refused(payload: bytes, complaint: str) -> None:
    with pytest.raises(CodecError, match=complaint):
        codecs.parse("ecq(2)").decode(payload, 4096)


@pytest.mark.parametrize("code", [trellis.FAST, trellis.FINE])
def test_the_trellis_finds_the_best_of_all_allowed_sequences(code: Code) -> None:
    """Against every sequence that the decoder's automaton allows, tried one by one."""
    values = rng(2).uniform(-2, 2, (7, 5))
    fixed = np.rint(values * FIXED_ONE).astype(np.int32)
    chosen = trellis.quantise(fixed, code)
    found = ((chosen + 0.5 - values) ** 2).sum(axis=0)
    best = np.full(5, np.inf)
    for branches in itertools.product((0, 1), repeat=7):
        automaton, error = Automaton(code), np.zeros(5)
        for value, b in zip(values, branches, strict=True):
            residue = 3 - 2 * b if automaton.ask() else 2 * b
            automaton.tell(b)
            apart = (value - residue - 0.5 + 2) % 4 - 2
            error += apart**2
        best = np.minimum(best, error)
    np.testing.assert_allclose(found, best, atol=0.03)  # It measures distances to 1/64 step.


def test_no_two_values_share_an_error_under_dither() -> None:
    """Its mean and its covariance with the value are zero, for values that lie on the grid and off it."""
    values = np.tile(np.array([0.0, 0.2, 0.5, 1.0, 3.3]), 26 * 256)[: 128 * 256].reshape(128, 256)
    fixed = np.rint(values * FIXED_ONE).astype(np.int32)
    errors = []
    for seed in range(12):
        dither = Dither(bytes([seed] * 8), (128, 256))
        chosen = trellis.quantise(dither.add(fixed), trellis.FINE)
        q = (chosen & 1).astype(np.uint8)
        point = (chosen << trellis.FIXED_BITS) + FIXED_HALF - dither.offset
        magnitude = (np.abs(point) >> trellis.FIXED_BITS).astype(np.uint8)
        errors.append(dither.points(magnitude, q) - values)
    error = np.stack(errors)
    deviation = error.std() / math.sqrt(error.size / 5)
    for value in (0.0, 0.2, 0.5, 1.0, 3.3):
        assert abs(error[:, values == value].mean()) < 4 * deviation
    assert (error**2).mean() == pytest.approx(trellis.CELL_POWER, rel=0.02)


@given(
    counts=st.lists(st.integers(0, 2000), min_size=1, max_size=254).filter(any),
    shift=st.integers(-8, 8),
    odd=st.booleans(),
)
@settings(max_examples=50)
def test_magnitudes_come_back_whatever_their_table(counts: list[int], shift: int, odd: bool) -> None:
    members = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[odd:]
    rng(3).shuffle(members)
    lengths = magnitudes.code_lengths(magnitudes.to_table(np.array(counts)), len(counts) - 1, shift)
    words = magnitudes.encode([members, members[:3]], [lengths, lengths])
    first, second = magnitudes.decode(words, [members.size, members[:3].size], [lengths, lengths])
    np.testing.assert_array_equal(first, members)
    np.testing.assert_array_equal(second, members[:3])


@pytest.mark.parametrize("spread", [0.4, 1, 4, 16])
def test_a_table_costs_little_beside_the_entropy(spread: float) -> None:
    members = np.abs(rng().standard_normal(SEGMENT_VALUES) * spread).astype(np.int32)
    counts = np.bincount(members)
    lengths = magnitudes.code_lengths(magnitudes.to_table(counts), counts.size - 1)
    share = counts[counts > 0] / members.size
    entropy = -(share * np.log2(share)).sum()
    bits = 8 * len(magnitudes.encode([members], [lengths])) / members.size
    assert bits - entropy < 0.004
