"""A mean with its 95 % interval, by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

# 97.5 %, for 1, 2, ... degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` values; `half` half of its 95 % t interval, None of one value."""

    mean: float
    half: float | None
    n: int

    @property
    def high(self) -> float:
        """The interval's upper end; infinite where there is none."""
        return math.inf if self.half is None else self.mean + self.half

    @property
    def low(self) -> float:
        return -math.inf if self.half is None else self.mean - self.half


def estimate(values: Iterable[float]) -> Estimate | None:
    """None of nothing."""
    found = list(values)
    if not found:
        return None
    half = None
    if len(found) > 1:
        t = _T[min(len(found) - 1, len(_T)) - 1]
        half = t * statistics.stdev(found) / math.sqrt(len(found))
    return Estimate(statistics.fmean(found), half, len(found))
