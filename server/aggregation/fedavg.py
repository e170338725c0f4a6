"""FedAvg: the mean of the updates, weighted by examples (McMahan et al., arXiv 1602.05629, algorithm 1).

This is the step of FedIT (A and B averaged each by itself, arXiv 2305.05644), of FFA-LoRA (B alone, arXiv
2403.12313) and of RoLoRA (B and A in turns, arXiv 2502.01755), which differ in what crosses the network
(proto/exchange.py). Where one factor is the same for all, the mean of the other gives the mean product.

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
from server.aggregation.optimizer import Means

FRACTION_BITS = 36
LARGEST_VALUE = 2.0**7
LARGEST_WEIGHT = 2**20

_STEP_VALUES = 2**18


class OutOfRangeError(ValueError):
    """An update that is not finite or has diverged beyond +-128, or too many examples in one round."""


class Tally:
    """Counts updates and checks their values, for methods that need each update by itself.

    `add` and `subtract` may be called from any thread. An update counts once all of its segments have been
    added and `count` has taken its weight; until then it must be subtracted before the round's step.
    """

    def __init__(self) -> None:
        self.weight = 0

    def add(self, values: Vector, start: int, examples: int) -> None:
        """A segment of one client's update, from value `start` on. Raises OutOfRangeError."""
        if not np.isfinite(values).all():
            raise OutOfRangeError("update holds NaN or Inf")
        largest = float(np.abs(values).max(initial=0))
        if largest >= LARGEST_VALUE:
            raise OutOfRangeError(f"update holds {largest:g}; it has diverged beyond {LARGEST_VALUE:g}")

    def subtract(self, values: Vector, start: int, examples: int) -> None:
        """Undo exactly one `add` of the same arguments."""

    def count(self, examples: int) -> None:
        """All of a client's update has been added: its weight counts. Raises OutOfRangeError."""
        if examples < 1 or self.weight + examples > LARGEST_WEIGHT:
            raise OutOfRangeError(f"weight {examples}: a round takes 1 to {LARGEST_WEIGHT} examples in all")
        self.weight += examples

    def release(self) -> None:
        """Give the memory back; the round is over."""


class FedAvg(Tally):
    """The sum of updates of shape (size,); memory is one vector of int64, however many clients send."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._sum = np.zeros(size, np.int64)
        self._lock = Lock()

    def add(self, values: Vector, start: int, examples: int) -> None:
        """As Tally.add; what raises leaves the sum as it was."""
        super().add(values, start, examples)
        self._apply(values, start, examples)

    def subtract(self, values: Vector, start: int, examples: int) -> None:
        """As Tally.subtract."""
        self._apply(values, start, -examples)

    def _apply(self, values: Vector, start: int, examples: int) -> None:
        fixed = np.rint(np.ldexp(values.astype(np.float64), FRACTION_BITS)).astype(np.int64) * examples
        with self._lock:
            self._sum[start : start + values.size] += fixed

    def means(self) -> Means:
        """The weighted mean, exact to 2^-36, piece by piece: (first value, values); none of nobody."""
        if self.weight == 0:
            return
        for start in range(0, self._sum.size, _STEP_VALUES):
            part = self._sum[start : start + _STEP_VALUES]
            yield start, np.ldexp(part.astype(np.float64), -FRACTION_BITS) / self.weight

    def release(self) -> None:
        """As Tally.release."""
        self._sum = np.zeros(0, np.int64)
