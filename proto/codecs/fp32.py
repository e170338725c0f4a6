"""fp32: the vector as it is, little-endian."""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.codec import check_finite, check_length
from proto.codecs.fields import Field, FixedLength


class Fp32(FixedLength):
    """Lossless; the yardstick for all others."""

    name = "fp32"
    unbiased = True

    def fields(self, size: int) -> tuple[Field, ...]:
        return (Field(4 * size, planes=4),)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        check_finite(self, vector)
        return vector.astype("<f4").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        check_length(self, payload, size)
        vector = np.frombuffer(payload, "<f4").astype(np.float32)
        check_finite(self, vector)
        return vector
