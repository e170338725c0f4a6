"""sign: one bit a value, and the mean magnitude of each block of 2048, which minimises the square error.

Seide et al., 1-bit SGD, Interspeech 2014; Karimireddy et al., arXiv 1901.09847, who show that without error
feedback it need not converge. Payload: the bits (1: not negative), then bfloat16 scales.
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.blocks import LARGEST, check_scales, cut, from_bfloat16, to_bfloat16
from proto.codecs.fields import Field, FixedLength

BLOCK = 2048


class Sign(FixedLength):
    """1.008 bits a parameter; NMSE 1 - 2/pi = .363 on Gaussian values."""

    name = "sign"
    wants_error_feedback = True

    def fields(self, size: int) -> tuple[Field, ...]:
        return Field(size, 1), Field(2 * -(-size // BLOCK), planes=2)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        blocks, _ = cut(self, vector, BLOCK)
        counts = np.full(len(blocks), BLOCK, np.float32)
        counts[-1:] -= blocks.size - vector.size
        halves = to_bfloat16(np.abs(blocks).sum(axis=1) / counts)
        return np.packbits(vector >= 0, bitorder="little").tobytes() + halves.astype("<u2").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        bits, halves = self.split(payload, size)
        scales = from_bfloat16(halves.view("<u2"))
        check_scales(self, scales, 1.01 * LARGEST)
        signs = np.zeros((scales.size, BLOCK), np.float32)
        signs.reshape(-1)[:size] = np.unpackbits(bits, count=size, bitorder="little")
        signs -= np.float32(0.5)
        signs *= 2 * scales[:, None]
        return signs.reshape(-1)[:size]
