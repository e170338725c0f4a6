"""What the global adapter makes of a round's mean update: its step.

`none` moves by it; `fedavgm` and `fedadam` treat it as a gradient (with its sign turned).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from proto.adapter import Vector
from server.aggregation.factors import Matrix

Means = Iterator[tuple[int, Matrix]]
"""(first value, values) of the mean update, in order."""


class AggregationError(ValueError):
    """A combination that cannot be; the message begins with the key of the `aggregation` section."""


class Optimizer(Protocol):
    """Keeps its state between the rounds. State of the first step is taken from the adapter's size."""

    def step(self, adapter: Vector, means: Means) -> None:
        """Move `adapter`, shape (size,), in place."""
        ...


@dataclass(frozen=True)
class OptimizerOptions:
    """Which, and how. Raises AggregationError naming the option that is out of range."""

    name: Literal["none", "fedavgm", "fedadam"] = "none"
    learning_rate: float | None = None
    """None: 1 for fedavgm, 0.01 for fedadam."""
    momentum: float = 0.9
    """fedavgm's, and fedadam's beta_1."""
    second_momentum: float = 0.99
    """fedadam's beta_2."""
    adaptivity: float = 1e-3
    """fedadam's tau: the smaller, the more alike the steps of all values."""

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if rate is not None and not 0 < rate < math.inf:
            raise AggregationError(f"learning_rate: {rate:g} is not above 0")
        for key in ("momentum", "second_momentum"):
            if not 0 <= (value := getattr(self, key)) < 1:
                raise AggregationError(f"{key}: {value:g} is not between 0 and 1")
        if not 0 < self.adaptivity < math.inf:
            raise AggregationError(f"adaptivity: {self.adaptivity:g} is not above 0")

    def build(self) -> Optimizer:
        """One without a state yet."""
        from server.aggregation.fedadam import FedAdam
        from server.aggregation.fedavgm import FedAvgM

        if self.name == "fedavgm":
            return FedAvgM(self.learning_rate or 1.0, self.momentum)
        if self.name == "fedadam":
            rate = self.learning_rate or 0.01
            return FedAdam(rate, self.momentum, self.second_momentum, self.adaptivity)
        return Plain()


class Plain:
    """The adapter moves by the mean update."""

    def step(self, adapter: Vector, means: Means) -> None:
        for start, mean in means:
            adapter[start : start + mean.size] = adapter[start : start + mean.size] + mean
