"""Which devices take part in a round."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def random_fraction(devices: Sequence[str], fraction: float, *, seed: int, round_number: int) -> list[str]:
    """ceil(fraction * n) of the devices, at least one, drawn by seed and round; kept in order."""
    count = max(1, math.ceil(fraction * len(devices) - 1e-9))
    if count >= len(devices):
        return list(devices)
    chosen = np.random.default_rng((seed, round_number)).choice(len(devices), count, replace=False)
    return [devices[index] for index in sorted(chosen)]
