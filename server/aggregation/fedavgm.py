"""FedAvgM: server momentum (Hsu et al., arXiv 1909.06335).

v <- momentum v + mean;   adapter <- adapter + rate v
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from server.aggregation.optimizer import Means


class FedAvgM:
    """Memory: one vector beside the adapter."""

    def __init__(self, learning_rate: float, momentum: float) -> None:
        self._rate, self._momentum = learning_rate, momentum
        self._velocity: Vector | None = None

    def step(self, adapter: Vector, means: Means) -> None:
        """As Optimizer.step."""
        if self._velocity is None:
            self._velocity = np.zeros(adapter.size, np.float32)
        for start, mean in means:
            part = slice(start, start + mean.size)
            velocity = self._momentum * self._velocity[part].astype(np.float64) + mean
            self._velocity[part] = velocity
            adapter[part] = adapter[part] + self._rate * velocity
