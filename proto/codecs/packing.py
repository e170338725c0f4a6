"""Symbols of 1 to 8 bits, packed without gaps.

Symbol i takes the bits from i * bits on, counted from each byte's lowest. Eight symbols, a byte each, are
one 64-bit word, in which neighbours are pushed together in three steps: pairs, fours, all eight.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Symbols = NDArray[np.uint8]


def packed_bytes(count: int, bits: int) -> int:
    """How many bytes `count` symbols of `bits` bits take."""
    return -(-count * bits // 8)


def pack(symbols: Symbols, bits: int) -> bytes:
    """Symbols below 2^bits, shape (n,) -> packed_bytes(n, bits) bytes."""
    if bits == 8:
        return symbols.tobytes()
    words = _words(symbols, 8)
    for shift, low, high in reversed(_steps(bits)):
        words = (words & low) | ((words & high) >> shift)
    if bits in (1, 2, 4):
        packed = words.astype(f"<u{bits}").tobytes()
    else:
        packed = words.view(np.uint8).reshape(-1, 8)[:, :bits].tobytes()
    return packed[: packed_bytes(symbols.size, bits)]


def unpack(packed: Symbols, bits: int, count: int) -> Symbols:
    """What `pack` made of `count` symbols, shape (count,)."""
    if bits == 8:
        return packed[:count]
    words = _words(packed, bits)
    for shift, low, high in _steps(bits):
        words = (words & low) | ((words << shift) & high)
    return words.view(np.uint8)[:count]


def _words(stored: Symbols, width: int) -> NDArray[np.uint64]:
    """Every `width` bytes as one little-endian 64-bit word; what is missing at the end is zero."""
    count = -(-stored.size // width)
    if stored.size < count * width:
        stored = np.concatenate([stored, np.zeros(count * width - stored.size, np.uint8)])
    if width in (1, 2, 4, 8):
        return np.ascontiguousarray(stored).view(f"<u{width}").astype("<u8")
    words = np.zeros((count, 8), np.uint8)
    words[:, :width] = stored.reshape(count, width)
    return words.reshape(-1).view("<u8")


def _steps(bits: int) -> list[tuple[np.uint64, np.uint64, np.uint64]]:
    """The three steps that spread eight packed symbols to a byte each; backwards, they push them together.

    Each takes pairs of groups of 4, 2, 1 symbols: the lower group (mask `low`) stays where it is, the
    upper one goes up by `shift` and then lies under the mask `high`.
    """
    steps = []
    for each in (4, 2, 1):
        low = sum((2 ** (bits * each) - 1) << start for start in range(0, 64, 16 * each))
        steps.append((np.uint64((8 - bits) * each), np.uint64(low), np.uint64(low << 8 * each)))
    return steps
