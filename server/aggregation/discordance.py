"""How far the mean of the local models is from the model of the mean factors.

    |mean(BA) - mean(B) mean(A)| / |mean(BA)|

Frobenius, over all modules; means by examples; devices of lower rank padded with zeros. It is what averaging
A and B by themselves (FedIT) loses of a round's local models, whatever the method then does about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from server.aggregation.factors import square_norm
from server.aggregation.flora import stack
from server.aggregation.local import LocalModel, padded, shares


def discordance(models: Sequence[LocalModel]) -> float:
    """NaN where nobody has learnt anything: mean(BA) is zero. Both factors must have been trained."""
    rank = max(model.lora.rank or 0 for model in models)
    weights = shares(models)
    apart = whole = 0.0
    for index in range(len(models[0].lora.modules)):
        factors = [padded(*model.factors(index), rank) for model in models]
        a, b = stack(models, index)
        mean_b = np.sum([p * b for p, (_, b) in zip(weights, factors, strict=True)], axis=0)
        if a.shape[0] > min(a.shape[1], b.shape[0]):
            # So many devices that the dense product takes less than products of their factors.
            mean_a = np.sum([p * a for p, (a, _) in zip(weights, factors, strict=True)], axis=0)
            product = b @ a
            whole += float(np.vdot(product, product))
            product -= mean_b @ mean_a
            apart += float(np.vdot(product, product))
            continue
        last_a = factors[-1][0]
        # As in FedEx-LoRA: sum_k p_k (B_k - mean(B)) (A_k - A_K), differences of what is nearly the same.
        rows = np.concatenate([a - last_a for a, _ in factors])
        columns = np.concatenate(
            [p * (b - mean_b) for p, (_, b) in zip(weights, factors, strict=True)], axis=1
        )
        apart += square_norm(rows, columns)
        whole += square_norm(a, b)
    return math.sqrt(apart / whole) if whole > 0 else math.nan
