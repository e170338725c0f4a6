"""Blocks of values that share a scale: cutting, peaks, and bfloat16 for what is stored once a block.

bfloat16, because the scales of LoRA deltas (1e-6 and less) are subnormal in fp16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from proto.adapter import Vector
from proto.codecs.codec import Codec, CodecError, check_finite

LARGEST = 1e34
"""No codec that scales takes larger magnitudes: sums over a segment stay far inside float32."""
_SMALLEST = 1e-38
"""Scales below become zero, and so do their values: their inverse would overflow."""

Halves = NDArray[np.uint16]


def in_blocks(vector: Vector, block: int) -> Vector:
    """Shape (n,) -> (ceil(n / block), block): the vector itself if that fits, else padded with zeros."""
    if vector.size % block == 0:
        return vector.reshape(-1, block)
    blocks = np.zeros((-(-vector.size // block), block), np.float32)
    blocks.reshape(-1)[: vector.size] = vector
    return blocks


def cut(codec: Codec, vector: Vector, block: int) -> tuple[Vector, Vector]:
    """The vector in blocks, and the largest magnitude of each; the blocks are not to be changed.

    Raises CodecError for NaN and for values beyond LARGEST.
    """
    blocks = in_blocks(vector, block)
    peaks = np.maximum(blocks.max(axis=1), -blocks.min(axis=1))
    if not (peaks <= LARGEST).all():
        check_finite(codec, vector)
        raise CodecError(f"{codec.name}: value {peaks.max():g} is beyond {LARGEST:g}")
    return blocks, peaks


def bfloat16_scales(peaks: Vector, half: float) -> tuple[Halves, Vector]:
    """Scales of which no value of a block is more than `half`, as stored; and their inverses."""
    wanted = peaks / np.float32(half)
    halves = np.where(wanted > np.float32(_SMALLEST), _round_up_to_bfloat16(wanted), np.uint16(0))
    return halves, inverse(from_bfloat16(halves))


def inverse(scales: Vector) -> Vector:
    """1 / scale, and 0 where the scale is as good as zero."""
    return np.divide(1, scales, out=np.zeros_like(scales), where=scales > np.float32(_SMALLEST))


def check_scales(codec: Codec, scales: Vector, largest: float) -> None:
    """Refuse what no encoder stores, before it is multiplied: NaN, negative, or beyond `largest`."""
    if not ((scales >= 0) & (scales <= np.float32(largest))).all():
        raise CodecError(f"{codec.name}: a block's scale is negative, too large or not a number")


def to_bfloat16(values: Vector) -> Halves:
    """The upper half of the nearest bfloat16, ties to even; the largest finite values become infinite."""
    bits = values.view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)


def _round_up_to_bfloat16(values: Vector) -> Halves:
    """Non-negative float32 -> the upper half of the next bfloat16 that is not smaller."""
    return ((values.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(halves: Halves) -> Vector:
    """Exact: bfloat16 is the upper half of a float32."""
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)
