"""What the peers send: as many fp32 values as the adapter has, in one tensor or many."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def tensors(values: int, count: int, seed: int = 3) -> list[NDArray[np.float32]]:
    """`values` seeded normal values in `count` tensors, whose sizes differ by one at most."""
    vector = np.random.default_rng(seed).standard_normal(values, np.float32)
    return np.array_split(vector, count)


def changed(arrays: Iterable[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """Every value a little larger: an update that no cache can know."""
    return [array + np.float32(1e-3) for array in arrays]
