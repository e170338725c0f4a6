"""HetLoRA: zero-padding and truncation, weighted by norm (Cho et al., arXiv 2401.06432).

A device of rank r_k starts from the first r_k rows of A and columns of B. Its local factors are padded with
zeros to the largest rank and averaged with weights p_k = |B_k A_k| / sum_j |B_j A_j| (Frobenius, over all
modules: the paper's sparsity weighting, which takes the place of examples). The paper's pruning of ranks
during training is not part of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from server.aggregation.factors import Matrix, square_norm
from server.aggregation.local import LocalModel, padded, shares


def norm_shares(models: Sequence[LocalModel]) -> list[float]:
    """p_k of each model; by examples where nobody has learnt anything."""
    count = len(models[0].lora.modules)
    norms = [math.sqrt(sum(square_norm(*model.factors(i)) for i in range(count))) for model in models]
    total = sum(norms)
    return [norm / total for norm in norms] if total > 0 else shares(models)


def pad_and_weigh(
    models: Sequence[LocalModel], weights: Sequence[float], index: int, rank: int
) -> tuple[Matrix, Matrix]:
    """A [rank, in] and B [out, rank] of module `index` of the new global adapter."""
    factors = [padded(*model.factors(index), rank) for model in models]
    a: Matrix = np.sum([p * a for p, (a, _) in zip(weights, factors, strict=True)], axis=0)
    b: Matrix = np.sum([p * b for p, (_, b) in zip(weights, factors, strict=True)], axis=0)
    return a, b
