"""A sorted table of a few levels: the nearest to each value, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proto.adapter import Vector
from proto.codecs.packing import Symbols


class Codebook:
    """At most 16 levels: counting the thresholds below a value beats searching them."""

    def __init__(self, levels: Sequence[float]) -> None:
        self._levels = np.array(levels, np.float32)
        self._thresholds = (self._levels[1:] + self._levels[:-1]) / 2

    def nearest(self, values: Vector) -> Symbols:
        """The number of the level nearest to each value, in the values' shape."""
        codes = np.zeros(values.shape, np.uint8)
        above = np.empty(values.shape, np.bool_)
        for threshold in self._thresholds:
            np.greater(values, threshold, out=above)
            codes += above.view(np.uint8)
        return codes

    def levels(self, codes: Symbols) -> Vector:
        """The levels of such numbers."""
        return self._levels.take(codes)
