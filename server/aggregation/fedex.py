"""FedEx-LoRA: FedAvg of A and B, and what that loses merged into the base (arXiv 2410.09432).

The residual mean(BA) - mean(B) mean(A) goes down as factors, not as the dense matrix. With
sum_k p_k (B_k - mean(B)) = 0 it is, for any one A_K,

    sum_k p_k (B_k - mean(B)) (A_k - mean(A))  =  sum_{k<K} p_k (B_k - mean(B)) (A_k - A_K)

of rank (K-1) r. All devices start from one adapter, so differences of their changes are all it takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.aggregation.factors import Matrix
from server.aggregation.local import LocalModel, shares


def residual_rank(models: Sequence[LocalModel]) -> int:
    """(K-1) r."""
    return (len(models) - 1) * (models[0].lora.rank or 0)


def mean_and_residual(
    models: Sequence[LocalModel], index: int
) -> tuple[tuple[Matrix, Matrix], tuple[Matrix, Matrix]]:
    """Of module `index`: the mean change of A [r, in] and B [out, r], and the residual's factors A
    [(K-1) r, in] and B [out, (K-1) r], in which one device leaves nothing."""
    weights, changes = shares(models), [model.changes(index) for model in models]
    mean_a: Matrix = np.sum([p * a for p, (a, _) in zip(weights, changes, strict=True)], axis=0)
    mean_b: Matrix = np.sum([p * b for p, (_, b) in zip(weights, changes, strict=True)], axis=0)
    last_a, last_b = changes[-1]
    rows = [a - last_a for a, _ in changes[:-1]] or [last_a[:0]]
    columns = [p * (b - mean_b) for p, (_, b) in zip(weights[:-1], changes[:-1], strict=True)]
    return (mean_a, mean_b), (np.concatenate(rows), np.concatenate(columns or [last_b[:, :0]], axis=1))
