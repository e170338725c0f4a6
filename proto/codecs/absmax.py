"""int8, int4, int2: blocks of 64 values share a scale, and each value is a small whole number of it.

Payload: the values' codes, packed, then one bfloat16 scale a block. The scale is the block's largest
magnitude over the largest level, rounded *up* to bfloat16, so no value clips.
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.blocks import LARGEST, bfloat16_scales, check_scales, cut, from_bfloat16
from proto.codecs.codec import CodecError
from proto.codecs.fields import Field, FixedLength
from proto.codecs.packing import pack, unpack
from proto.codecs.uniform import dequantise, quantise

BLOCK = 64


class Absmax(FixedLength):
    """`bits` + 0.25 bits a parameter. Stochastic rounding is unbiased and doubles the mean square error."""

    bits: int
    half: float
    """The largest level: as in proto/codecs/uniform.py."""

    def __init__(self, rounding: str = "nearest") -> None:
        if rounding not in ("nearest", "stochastic"):
            raise CodecError(f"codec int{self.bits}: rounding is nearest or stochastic, not {rounding}")
        self.unbiased = rounding == "stochastic"
        self.wants_error_feedback = not self.unbiased and self.bits < 8
        self.name = f"int{self.bits}(stochastic)" if self.unbiased else f"int{self.bits}"

    def fields(self, size: int) -> tuple[Field, ...]:
        return Field(size, self.bits), Field(2 * -(-size // BLOCK), planes=2)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        blocks, peaks = cut(self, vector, BLOCK)
        halves, inverses = bfloat16_scales(peaks, self.half)
        codes = quantise(blocks, inverses, self.half, rng if self.unbiased else None)
        return pack(codes[: vector.size], self.bits) + halves.astype("<u2").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        packed, halves = self.split(payload, size)
        scales = from_bfloat16(halves.view("<u2"))
        check_scales(self, scales, 1.01 * LARGEST / self.half)
        return dequantise(self, unpack(packed, self.bits, size), scales, self.half, BLOCK)


class Int8(Absmax):
    """NMSE 3.5e-5 on Gaussian values."""

    bits, half = 8, 127.0


class Int4(Absmax):
    """Levels -7 .. 7; NMSE 1.2e-2 on Gaussian values."""

    bits, half = 4, 7.0


class Int2(Absmax):
    """Four levels, the peak and a third of it with either sign, none of them zero."""

    bits, half = 2, 1.5
