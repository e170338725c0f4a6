"""FedAdam (Reddi et al., arXiv 2003.00295, algorithm 2), without bias correction as there.

m <- beta_1 m + (1 - beta_1) mean;   v <- beta_2 v + (1 - beta_2) mean^2;   v starts at tau^2
adapter <- adapter + rate m / (sqrt(v) + tau)
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from server.aggregation.optimizer import Means


class FedAdam:
    """Memory: two vectors beside the adapter."""

    def __init__(self, learning_rate: float, beta_1: float, beta_2: float, tau: float) -> None:
        self._rate, self._beta_1, self._beta_2, self._tau = learning_rate, beta_1, beta_2, tau
        self._moments: tuple[Vector, Vector] | None = None

    def step(self, adapter: Vector, means: Means) -> None:
        """As Optimizer.step."""
        if self._moments is None:
            first = np.zeros(adapter.size, np.float32)
            self._moments = first, np.full(adapter.size, self._tau**2, np.float32)
        for start, mean in means:
            part = slice(start, start + mean.size)
            m = self._beta_1 * self._moments[0][part].astype(np.float64) + (1 - self._beta_1) * mean
            v = self._beta_2 * self._moments[1][part].astype(np.float64) + (1 - self._beta_2) * mean**2
            self._moments[0][part], self._moments[1][part] = m, v
            adapter[part] = adapter[part] + self._rate * m / (np.sqrt(v) + self._tau)
