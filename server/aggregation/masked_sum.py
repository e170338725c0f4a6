"""The sum of updates under masks: ring elements, added while they arrive; masks are taken off at the end.

Device u sends codes of w_u / w_max times its update (proto/codecs/ring.py): with S the sum of the codes in
steps, the weighted mean is S * step * w_max / sum_u w_u. As integers it depends on no order,
and what is subtracted again leaves no trace. Memory is one vector of 32-bit integers.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from proto.adapter import Vector
from proto.codecs.ring import Ring
from server.aggregation.fedavg import Tally
from server.aggregation.optimizer import Means

if TYPE_CHECKING:
    from proto.secagg.masks import Masks

_STEP_VALUES = 2**18


class MaskedSum(Tally):
    """Of updates of shape (size,) in Z_2^`ring_bits`; nobody's are in range or not, for nobody can tell."""

    def __init__(self, size: int, grid: Ring, ring_bits: int, largest_weight: int) -> None:
        super().__init__()
        self._sum = np.zeros(size, np.uint32)
        self._grid, self._modulus_mask = grid, np.uint32(2**ring_bits - 1)
        self._largest_weight = largest_weight
        self._devices = 0
        self._lock = Lock()

    def add(self, values: Vector, start: int, examples: int) -> None:
        """A segment of masked elements, as patterns (proto/secagg/masked.py)."""
        elements = values.view(np.uint32)
        with self._lock:
            self._sum[start : start + elements.size] += elements

    def subtract(self, values: Vector, start: int, examples: int) -> None:
        """As Tally.subtract."""
        elements = values.view(np.uint32)
        with self._lock:
            self._sum[start : start + elements.size] -= elements

    def count(self, examples: int) -> None:
        """As Tally.count."""
        super().count(examples)
        self._devices += 1

    def void(self) -> None:
        """It cannot be unmasked: nothing counts."""
        self.weight = 0

    def take_off(self, masks: Masks) -> None:
        """Subtract the masks that are left in the sum. Others may add and subtract meanwhile."""
        for start in range(0, self._sum.size, _STEP_VALUES):
            part = np.zeros(min(_STEP_VALUES, self._sum.size - start), np.uint32)
            masks.add(part, start)
            self.subtract(part.view(np.float32), start, 0)

    def means(self) -> Means:
        """The weighted mean, piece by piece: (first value, values); none of nobody. Noise under masks."""
        if self.weight == 0:
            return
        for start in range(0, self._sum.size, _STEP_VALUES):
            elements = self._sum[start : start + _STEP_VALUES]
            steps = (elements & self._modulus_mask).astype(np.float64)
            steps -= self._devices * self._grid.half
            steps *= self._grid.step * self._largest_weight
            yield start, steps / self.weight

    def release(self) -> None:
        """As Tally.release."""
        self._sum = np.zeros(0, np.uint32)
