"""FedAvg: the mean of the updates, weighted by examples (McMahan et al., arXiv 1602.05629, algorithm 1).

Floating-point addition is not associative, so a float sum would depend on whose update came first.
Sums here are fixed-point integers, which makes the result bit-identical in any order of arrival:

    value 7 bits + fraction 36 bits + examples 20 bits = 63 bits: an int64 never overflows.
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector

FRACTION_BITS = 36
LARGEST_VALUE = 2.0**7
LARGEST_WEIGHT = 2**20


class OutOfRangeError(ValueError):
    """An update that is not finite or has diverged beyond +-128, or too many examples in one round."""


class FedAvg:
    """Accumulates updates of shape (size,); memory is one vector, however many clients send."""

    def __init__(self, size: int) -> None:
        self._sum = np.zeros(size, np.int64)
        self.weight = 0

    def add(self, update: Vector, examples: int) -> None:
        """Add one client's update. Raises OutOfRangeError and leaves the sum as it was."""
        if not np.isfinite(update).all():
            raise OutOfRangeError("update holds NaN or Inf")
        largest = float(np.abs(update).max(initial=0))
        if largest >= LARGEST_VALUE:
            raise OutOfRangeError(f"update holds {largest:g}; it has diverged beyond {LARGEST_VALUE:g}")
        if examples < 1 or self.weight + examples > LARGEST_WEIGHT:
            raise OutOfRangeError(f"weight {examples}: a round takes 1 to {LARGEST_WEIGHT} examples in all")
        fixed = np.rint(np.ldexp(update.astype(np.float64), FRACTION_BITS)).astype(np.int64)
        self._sum += fixed * examples
        self.weight += examples

    def step(self, adapter: Vector) -> Vector:
        """The global adapter after this round: `adapter` plus the weighted mean, exact to 2^-36."""
        if self.weight == 0:
            return adapter.copy()
        mean = np.ldexp(self._sum.astype(np.float64), -FRACTION_BITS) / self.weight
        return (adapter + mean).astype(np.float32)
