"""ring(bits,range): one grid for every value of every device, so that codes can be added before decoding.

A value is a number of steps of range / (2^(bits-1) - 1), rounded stochastically; what lies beyond +-range is
clipped to it. No scale travels: where other quantisers fit their grid to the values, here all devices must
have the same, or the sum of their codes would mean nothing. The codes of n devices, each below 2^bits, add up
without wrapping around in Z_2^b with b = bits + ceil(log2 n): what secure aggregation does (proto/secagg/;
the same quantiser in Bonawitz et al., arXiv 1912.00131, section 3).

Payload: packed codes.
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.codec import CodecError, check_finite, whole_argument
from proto.codecs.fields import Field, FixedLength
from proto.codecs.wide import Wide, pack_wide, unpack_wide, wide_fields

_LARGEST_RANGE = 128.0
"""What an update may hold (server/aggregation/fedavg.py)."""


class Ring(FixedLength):
    """`bits` bits a parameter. Unbiased within the range; mean square error at most (step / 2)^2."""

    unbiased = True

    def __init__(self, bits: int, range: float) -> None:
        self.bits = whole_argument("ring", "bits", bits, 2, 16)
        if isinstance(range, str) or not 0 < range <= _LARGEST_RANGE:
            raise CodecError(f"codec ring: range must be above 0 and at most {_LARGEST_RANGE:g}, not {range}")
        self.range = float(range)
        self.half = 2 ** (self.bits - 1) - 1
        """Steps on either side of zero: code c stands for (c - half) steps."""
        self.step = self.range / self.half
        self.name = f"ring({self.bits},{self.range!r})"

    def fields(self, size: int) -> tuple[Field, ...]:
        return wide_fields(size, self.bits)

    def codes(self, vector: Vector, rng: np.random.Generator, scale: float = 1.0) -> Wide:
        """Codes of `vector` times `scale`, shape (n,), each 0 to 2 * half. Raises CodecError."""
        check_finite(self, vector)
        steps = vector.astype(np.float64)
        steps *= scale / self.step
        steps += rng.random(steps.shape)
        steps += self.half
        np.clip(steps, 0, 2 * self.half, out=steps)
        return steps.astype(np.uint32)

    def clipped(self, vector: Vector, scale: float = 1.0) -> int:
        """How many values of `vector` times `scale` lie beyond the range."""
        return int(np.count_nonzero(np.abs(vector) > self.range / scale))

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        return pack_wide(self.codes(vector, rng), self.bits)

    def decode(self, payload: bytes, size: int) -> Vector:
        codes = unpack_wide(self.split(payload, size), self.bits, size)
        if size and codes.max() > 2 * self.half:
            raise CodecError(f"{self.name}: level {codes.max()} of {2 * self.half}")
        return ((codes.astype(np.float64) - self.half) * self.step).astype(np.float32)


def ring_bits(bits: int, devices: int) -> int:
    """b: the bits of a ring in which the codes of `devices` devices, `bits` bits each, add up."""
    return bits + (devices - 1).bit_length()
