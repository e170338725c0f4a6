"""What a codec is, and the names they go by."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import numpy as np

from proto.adapter import Vector


class CodecError(ValueError):
    """A vector that cannot be encoded, a payload that cannot be decoded, or a name nobody has."""


class Codec(Protocol):
    """Vector of shape (n,) float32 <-> bytes. Stateless."""

    name: str
    bits_per_parameter: float
    """On the wire, side information included, for large n."""
    unbiased: bool
    """Whether the mean of decode(encode(v)) over the generator is v."""
    wants_error_feedback: bool
    fixed_length: bool
    """Whether every vector of one size becomes equally many bytes."""

    def encoded_bytes(self, size: int) -> int:
        """The most bytes that a vector of `size` values becomes; no payload may be longer."""
        ...

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """Raises CodecError for values the codec cannot carry (not finite, out of range)."""
        ...

    def decode(self, payload: bytes, size: int) -> Vector:
        """Raises CodecError unless the payload is one that encode can have made of `size` values."""
        ...


# name -> (module, class); a module is imported when its codec is first named.
_CODECS = {
    "fp32": ("proto.codecs.fp32", "Fp32"),
    "fp16": ("proto.codecs.fp16", "Fp16"),
    "int8": ("proto.codecs.int8", "Int8"),
}


def parse(text: str) -> Codec:
    """The codec written `text`. Raises CodecError naming what is wrong with it."""
    first, *following = [stage.strip() for stage in text.split("|")]
    if first not in _CODECS:
        raise CodecError(f"unknown codec '{first}': one of {', '.join(_CODECS)}")
    if following:
        raise CodecError(f"codec '{text}': no stage '{following[0]}' that can follow {first}")
    module, name = _CODECS[first]
    codec: Codec = getattr(import_module(module), name)()
    return codec


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
