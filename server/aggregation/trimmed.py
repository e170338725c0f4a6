"""The coordinate-wise trimmed mean of the updates (Yin et al., arXiv 1803.01498); examples do not count."""

from __future__ import annotations

import math

import numpy as np

from server.aggregation.factors import Matrix


def trimmed(updates: Matrix, fraction: float) -> Matrix:
    """Updates [K, n] -> [n]: the mean without the ceil(fraction * K) largest and as many smallest values.

    One or two are left at least. `fraction`, below one half, is the share of devices that may send anything.
    """
    count = updates.shape[0]
    cut = min(math.ceil(fraction * count - 1e-9), (count - 1) // 2)
    ordered = np.sort(updates, axis=0)
    values: Matrix = ordered[cut : count - cut].mean(axis=0)
    return values
