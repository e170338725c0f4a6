"""fp16: IEEE half precision, rounded to nearest even."""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.codec import check_finite, check_length, check_magnitudes
from proto.codecs.fields import Field, FixedLength

_LARGEST = float(np.finfo(np.float16).max)


class Fp16(FixedLength):
    """Half the bytes; relative error 2^-11 for values from 6e-5 to 65504."""

    name = "fp16"

    def fields(self, size: int) -> tuple[Field, ...]:
        return (Field(2 * size, planes=2),)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        check_magnitudes(self, vector, _LARGEST)
        return vector.astype("<f2").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        check_length(self, payload, size)
        vector = np.frombuffer(payload, "<f2").astype(np.float32)
        check_finite(self, vector)
        return vector
