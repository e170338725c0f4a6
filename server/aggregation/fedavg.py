"""FedAvg: the mean of the updates, weighted by examples (McMahan et al., arXiv 1602.05629, algorithm 1).

Floating-point addition is not associative, so a float sum would depend on whose update came first.
Sums here are fixed-point integers, which makes the result bit-identical in any order of arrival:

    value 7 bits + fraction 36 bits + examples 20 bits = 63 bits: an int64 never overflows.

It also makes a sum exact to undo: an update is added segment by segment while it arrives, and one that fails
half-way is subtracted again. What is in the sum but not yet counted may wrap around; integers wrap back.
"""

from __future__ import annotations

from threading import Lock

import numpy as np

from proto.adapter import Vector

FRACTION_BITS = 36
LARGEST_VALUE = 2.0**7
LARGEST_WEIGHT = 2**20

_STEP_VALUES = 2**18


class OutOfRangeError(ValueError):
    """An update that is not finite or has diverged beyond +-128, or too many examples in one round."""


class FedAvg:
    """Accumulates updates of shape (size,); memory is one vector of int64, however many clients send.

    `add` and `subtract` may be called from any thread. An update counts once all of its segments have been
    added and `count` has taken its weight; until then it must be subtracted before `step`.
    """

    def __init__(self, size: int) -> None:
        self._sum = np.zeros(size, np.int64)
        self._lock = Lock()
        self.weight = 0

    def add(self, values: Vector, start: int, examples: int) -> None:
        """Add a segment of one client's update, from value `start` on.

        Raises OutOfRangeError and leaves the sum as it was.
        """
        if not np.isfinite(values).all():
            raise OutOfRangeError("update holds NaN or Inf")
        largest = float(np.abs(values).max(initial=0))
        if largest >= LARGEST_VALUE:
            raise OutOfRangeError(f"update holds {largest:g}; it has diverged beyond {LARGEST_VALUE:g}")
        self._apply(values, start, examples)

    def subtract(self, values: Vector, start: int, examples: int) -> None:
        """Undo exactly one `add` of the same arguments."""
        self._apply(values, start, -examples)

    def _apply(self, values: Vector, start: int, examples: int) -> None:
        fixed = np.rint(np.ldexp(values.astype(np.float64), FRACTION_BITS)).astype(np.int64) * examples
        with self._lock:
            self._sum[start : start + values.size] += fixed

    def count(self, examples: int) -> None:
        """All of a client's update is in the sum: its weight counts. Raises OutOfRangeError."""
        if examples < 1 or self.weight + examples > LARGEST_WEIGHT:
            raise OutOfRangeError(f"weight {examples}: a round takes 1 to {LARGEST_WEIGHT} examples in all")
        self.weight += examples

    def step(self, adapter: Vector) -> None:
        """Move `adapter`, shape (size,), in place by the weighted mean, exact to 2^-36."""
        if self.weight == 0:
            return
        for start in range(0, adapter.size, _STEP_VALUES):
            part = slice(start, start + _STEP_VALUES)
            mean = np.ldexp(self._sum[part].astype(np.float64), -FRACTION_BITS) / self.weight
            adapter[part] = adapter[part] + mean

    def release(self) -> None:
        """Give the memory back; the round is over."""
        self._sum = np.zeros(0, np.int64)
