"""int8: blocks of 64 values share a scale; each value is a signed byte times it.

Payload: one byte a value, then one bfloat16 scale a block. The scale is the block's largest magnitude
over 127, rounded *up* to bfloat16, so no value clips; bfloat16 rather than fp16 because the scales of
LoRA deltas (1e-6 and less) are subnormal in fp16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proto.adapter import Vector
from proto.codecs.codec import CodecError, check_finite, check_length

BLOCK = 64
_LARGEST = 1e38  # Beyond it the rounded-up scale could overflow.


class Int8:
    """8.25 bits a parameter, rounded to nearest; NMSE 3.5e-5 on Gaussian values."""

    name = "int8"
    bits_per_parameter = 8 + 16 / BLOCK
    unbiased = False
    wants_error_feedback = False
    fixed_length = True

    def encoded_bytes(self, size: int) -> int:
        return size + 2 * -(-size // BLOCK)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        check_finite(self, vector)
        blocks = np.zeros((-(-vector.size // BLOCK), BLOCK), np.float32)
        blocks.reshape(-1)[: vector.size] = vector
        peaks = np.abs(blocks).max(axis=1)
        if peaks.size and peaks.max() > _LARGEST:
            raise CodecError(f"int8: value {peaks.max():g} is beyond {_LARGEST:g}")
        halves = _round_up_to_bfloat16(peaks / np.float32(127))
        scales = _from_bfloat16(halves)
        # A block of zeros, or of values so small that peak/127 underflows, has scale 0: all become 0.
        inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > np.float32(1e-38))
        levels = np.clip(np.rint(blocks * inverse[:, None]), -127, 127).astype(np.int8)
        return levels.reshape(-1)[: vector.size].tobytes() + halves.astype("<u2").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        check_length(self, payload, size)
        scales = _from_bfloat16(np.frombuffer(payload, "<u2", offset=size))
        if not (scales >= 0).all():
            raise CodecError("int8: a block's scale is negative or not a number")
        levels = np.zeros((scales.size, BLOCK), np.float32)
        levels.reshape(-1)[:size] = np.frombuffer(payload, np.int8, count=size)
        vector = (levels * scales[:, None]).reshape(-1)[:size]
        check_finite(self, vector)
        return vector


def _round_up_to_bfloat16(values: Vector) -> NDArray[np.uint16]:
    """Non-negative float32 -> the upper half of the next bfloat16 that is not smaller."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)


def _from_bfloat16(halves: NDArray[np.uint16]) -> Vector:
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
