"""Updates under masks: codes of a common grid, hidden in a ring that is wide enough for their sum.

Ring elements pass through what carries float32 vectors (segments, uploads) as 32-bit patterns: a view of the
same memory, on which no arithmetic is done but that of server/aggregation/masked_sum.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proto.adapter import Vector
from proto.codecs import Codec, CodecError
from proto.codecs.fields import Field, FixedLength
from proto.codecs.ring import Ring
from proto.codecs.wide import pack_wide, unpack_wide, wide_fields
from proto.secagg.masks import LARGEST_RING_BITS, Masks
from proto.segments import SegmentEncoder, Values


class Masked(FixedLength):
    """The codec of ring elements, `ring_bits` bits each. `grid` is what they are codes of, under masks."""

    def __init__(self, grid: Ring, ring_bits: int) -> None:
        if not grid.bits < ring_bits <= LARGEST_RING_BITS:
            raise CodecError(f"{grid.name} in {ring_bits} bits: {grid.bits + 1} to {LARGEST_RING_BITS}")
        self.grid, self.ring_bits = grid, ring_bits
        self.name = f"{grid.name} masked in {ring_bits} bits"

    def fields(self, size: int) -> tuple[Field, ...]:
        return wide_fields(size, self.ring_bits)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """Patterns of elements; bits above the ring's are cut off."""
        return pack_wide(vector.view(np.uint32) & np.uint32(2**self.ring_bits - 1), self.ring_bits)

    def decode(self, payload: bytes, size: int) -> Vector:
        """Patterns of elements. Nothing but a length can be wrong: every pattern is one that masks make."""
        return unpack_wide(self.split(payload, size), self.ring_bits, size).view(np.float32)


class MaskedEncoder(SegmentEncoder):
    """An update -> its masked payload, a segment at a time, the same bytes each time.

    The update is multiplied by `scale`, its weight over the cohort's largest, before it is quantised. How
    many values of each segment lay beyond the grid's range is left in `clipped`.
    """

    def __init__(
        self,
        codec: Masked,
        vector: Values,
        seed: Sequence[int],
        *,
        masks: Masks,
        scale: float,
        clipped: dict[int, int],
    ) -> None:
        super().__init__(codec, vector, seed)
        self._grid, self._masks, self._scale = codec.grid, masks, scale
        self._clipped = clipped

    def encoded(self, values: Vector, start: int, rng: np.random.Generator) -> bytes:
        self._clipped[start] = self._grid.clipped(values, self._scale)
        elements = self._grid.codes(values, rng, self._scale)
        self._masks.add(elements, start)
        return self.segments.codec.encode(elements.view(np.float32), rng)


def grid_of(codec: Codec) -> Ring:
    """The codec as a grid whose codes can be summed. Raises CodecError for any other."""
    if not isinstance(codec, Ring):
        raise CodecError(f"{codec.name} cannot be summed under masks; ring(BITS,RANGE) can")
    return codec
