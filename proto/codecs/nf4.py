"""nf4: blocks of 64 values share a scale, and each is one of 16 quantiles of a Gaussian.

Dettmers et al., QLoRA, arXiv 2305.14314, section 3 and appendix E (the levels): each level is as likely as
any other where values are Gaussian, zero is a level, and so are the peak and its negative. Unlike QLoRA's,
the scale, a block's largest magnitude, is a bfloat16, rounded up. Payload: packed codes, then the scales.
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.absmax import BLOCK
from proto.codecs.blocks import LARGEST, bfloat16_scales, check_scales, cut, from_bfloat16, in_blocks
from proto.codecs.codebook import Codebook
from proto.codecs.fields import Field, FixedLength
from proto.codecs.packing import pack, unpack

_LEVELS = Codebook(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)


class Nf4(FixedLength):
    """4.25 bits a parameter, NMSE 8.4e-3 on Gaussian values."""

    name = "nf4"
    wants_error_feedback = True

    def fields(self, size: int) -> tuple[Field, ...]:
        return Field(size, 4), Field(2 * -(-size // BLOCK), planes=2)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        blocks, peaks = cut(self, vector, BLOCK)
        halves, inverses = bfloat16_scales(peaks, 1)
        codes = _LEVELS.nearest(blocks * inverses[:, None])
        return pack(codes.reshape(-1)[: vector.size], 4) + halves.astype("<u2").tobytes()

    def decode(self, payload: bytes, size: int) -> Vector:
        packed, halves = self.split(payload, size)
        scales = from_bfloat16(halves.view("<u2"))
        check_scales(self, scales, 1.01 * LARGEST)
        values = in_blocks(_LEVELS.levels(unpack(packed, 4, size)), BLOCK) * scales[:, None]
        return values.reshape(-1)[:size]
