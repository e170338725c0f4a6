"""What the global adapter makes of a round's mean update: its step.

`none` moves by it; `fedavgm` and `fedadam` treat it as a gradient (with its sign turned).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from proto.adapter import Vector
from server.aggregation.factors import Matrix

Means = Iterator[tuple[int, Matrix]]
"""(first value, values) of the mean update, in order."""


class Optimizer(Protocol):
    """Keeps its state between the rounds. State of the first step is taken from the adapter's size."""

    def step(self, adapter: Vector, means: Means) -> None:
        """Move `adapter`, shape (size,), in place."""
        ...


class Plain:
    """The adapter moves by the mean update."""

    def step(self, adapter: Vector, means: Means) -> None:
        for start, mean in means:
            adapter[start : start + mean.size] = adapter[start : start + mean.size] + mean
