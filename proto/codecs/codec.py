"""What a codec is, and the checks that all of them make."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from proto.adapter import Vector


class CodecError(ValueError):
    """A vector that cannot be encoded, a payload that cannot be decoded, or a name nobody has."""


class Codec(Protocol):
    """Vector of shape (n,) float32 <-> bytes. Stateless: one codec serves many threads."""

    name: str
    """As `parse` reads it, in its only spelling: codecs are equal if their names are."""
    unbiased: bool
    """Whether the mean of decode(encode(v)) over the generator is v."""
    wants_error_feedback: bool
    fixed_length: bool
    """Whether every vector of one size becomes equally many bytes."""

    @property
    def bits_per_parameter(self) -> float:
        """On the wire for large n, side information included; of Gaussian values if it depends on them."""
        ...

    def encoded_bytes(self, size: int) -> int:
        """The most bytes that a vector of `size` values becomes; no payload may be longer."""
        ...

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """Raises CodecError for values the codec cannot carry (not finite, out of range)."""
        ...

    def decode(self, payload: bytes, size: int) -> Vector:
        """Raises CodecError unless the payload is one that encode can have made of `size` values."""
        ...


def check_length(codec: Codec, payload: bytes, size: int) -> None:
    """Refuse a payload of another length than `size` values have, before any memory is taken."""
    expected = codec.encoded_bytes(size)
    if len(payload) != expected:
        raise CodecError(f"{codec.name}: payload of {len(payload)} bytes, {size} values make {expected}")


def check_finite(codec: Codec, vector: Vector) -> None:
    """Refuse NaN and Inf, naming the first."""
    if not np.isfinite(vector).all():
        index = int(np.argmin(np.isfinite(vector)))
        raise CodecError(f"{codec.name}: value {index} of {vector.size} is {vector[index]}")


def check_magnitudes(codec: Codec, vector: Vector, largest: float) -> None:
    """Refuse NaN, Inf and whatever is beyond the `largest` finite number of a format."""
    check_finite(codec, vector)
    if vector.size and (peak := float(np.abs(vector).max())) > largest:
        raise CodecError(f"{codec.name}: value {peak:g} is beyond {largest:g}")


def whole_argument(codec: str, argument: str, value: object, least: int, most: int) -> int:
    """Such a number as an argument of a codec's name. Raises CodecError for anything else."""
    if not isinstance(value, int) or not least <= value <= most:
        raise CodecError(f"codec {codec}: {argument} must be a whole number, {least} to {most}, not {value}")
    return value


def bits_of_gaussian(codec: Codec) -> float:
    """bits_per_parameter where lengths vary: of four segments (proto/segments.py) of Gaussian values."""
    rng = np.random.default_rng(0)
    lengths = [len(codec.encode(rng.standard_normal(2**15, np.float32), rng)) for _ in range(4)]
    return 8 * sum(lengths) / 2**17
