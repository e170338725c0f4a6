"""The Walsh-Hadamard transform, by butterflies.

Only additions and subtractions in a fixed order: equal to the bit on every machine, which a matrix product
is not.
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector


def hadamard(columns: Vector) -> Vector:
    """H times each column of a contiguous array of shape (2^k, m), entries of H being +-1: H H = 2^k.

    Spends the array as scratch space.
    Columns and not rows, so that even the butterflies of neighbours are between runs of m values.
    """
    length, width = columns.shape
    here, there = columns, np.empty_like(columns)
    span = 1
    while span < length:
        pairs = (length // (2 * span), 2, span * width)
        before, after = here.reshape(pairs), there.reshape(pairs)
        np.add(before[:, 0], before[:, 1], out=after[:, 0])
        np.subtract(before[:, 0], before[:, 1], out=after[:, 1])
        here, there = there, here
        span *= 2
    return here
