"""fp32: the vector as it is, little-endian."""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.codec import check_finite, check_length


class Fp32:
    """Lossless; the yardstick for all others."""

    name = "fp32"
    bits_per_parameter = 32.0
    unbiased = True
    wants_error_feedback = False
    fixed_length = True

    def encoded_bytes(self, size: int) -> int:
        return 4 * size

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        check_finite(self, vector)
        return vector.astype("<f4").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        check_length(self, payload, size)
        vector = np.frombuffer(payload, "<f4").astype(np.float32)
        check_finite(self, vector)
        return vector
