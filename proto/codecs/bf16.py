"""bf16: the upper half of a float32 (8 bits of exponent, 8 of precision), rounded to nearest even."""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.blocks import from_bfloat16, to_bfloat16
from proto.codecs.codec import check_finite, check_length, check_magnitudes
from proto.codecs.fields import Field, FixedLength

_LARGEST = float.fromhex("0x1.fep127")  # The largest finite bfloat16.


class Bf16(FixedLength):
    """Half the bytes; relative error 2^-8 at every magnitude of float32, where fp16 has an end at 65504."""

    name = "bf16"

    def fields(self, size: int) -> tuple[Field, ...]:
        return (Field(2 * size, planes=2),)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        check_magnitudes(self, vector, _LARGEST)
        return to_bfloat16(vector).astype("<u2").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        check_length(self, payload, size)
        vector = from_bfloat16(np.frombuffer(payload, "<u2"))
        check_finite(self, vector)
        return vector
