"""Symbols of up to 32 bits: their whole bytes as planes, and what is left of them packed without gaps.

Of 10-bit symbols first the low byte of each, then the two bits above it, four symbols to a byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from proto.codecs.fields import Field
from proto.codecs.packing import pack, unpack

Wide = NDArray[np.uint32]


def wide_fields(count: int, bits: int) -> tuple[Field, ...]:
    """The parts that `count` symbols of `bits` bits become, the lowest bits first."""
    return tuple(Field(count, min(8, bits - low)) for low in range(0, bits, 8))


def pack_wide(symbols: Wide, bits: int) -> bytes:
    """Symbols below 2^bits, shape (n,) -> the bytes of their `wide_fields`."""
    planes = symbols.astype("<u4").view(np.uint8).reshape(-1, 4)
    return b"".join(
        pack(np.ascontiguousarray(planes[:, low // 8]), min(8, bits - low)) for low in range(0, bits, 8)
    )


def unpack_wide(parts: Sequence[NDArray[np.uint8]], bits: int, count: int) -> Wide:
    """What `pack_wide` made of `count` symbols, as its parts -> shape (count,)."""
    symbols = np.zeros(count, "<u4")
    planes = symbols.view(np.uint8).reshape(-1, 4)
    for place, part in enumerate(parts):
        planes[:, place] = unpack(part, min(8, bits - 8 * place), count)
    return symbols.astype(np.uint32, copy=False)
