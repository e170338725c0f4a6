"""Values that share a scale -> steps of a uniform grid, rounded to nearest or stochastically.

A code c in 0 .. 2 * half stands for (c - half) * scale. `half` is whole where zero is to be a level
(127 steps either side in 8 bits), and halves where the number of levels is even (1.5: -1.5, -.5, .5, 1.5).
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.codecs.codec import Codec, CodecError
from proto.codecs.packing import Symbols


def quantise(blocks: Vector, inverse_scales: Vector, half: float, rng: np.random.Generator | None) -> Symbols:
    """Shapes (m, block) and (m,) -> (m * block,).

    Stochastic with a generator: up with a probability of what is cut off, so that the mean is the value
    itself; nearest with None.
    """
    steps = blocks * inverse_scales[:, None]
    if rng is None:
        steps += np.float32(half + 0.5)
    else:
        steps += rng.random(steps.shape, np.float32)
        steps += np.float32(half)
    # A scale's own rounding may put a peak one unit in the last place outside of the grid.
    np.clip(steps, 0, np.float32(2 * half), out=steps)
    return steps.astype(np.int32).astype(np.uint8).reshape(-1)


def dequantise(codec: Codec, codes: Symbols, scales: Vector, half: float, block: int) -> Vector:
    """Shapes (n,) and (ceil(n / block),) -> (n,). Raises CodecError for a code beyond the grid."""
    if codes.size and codes.max() > 2 * half:
        raise CodecError(f"{codec.name}: level {codes.max()} of {2 * half:g}")
    steps = np.zeros((scales.size, block), np.float32)
    steps.reshape(-1)[: codes.size] = codes
    steps -= np.float32(half)
    steps *= scales[:, None]
    return steps.reshape(-1)[: codes.size]
