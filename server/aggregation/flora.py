"""FLoRA: stacking (Wang et al., arXiv 2409.05976).

    sum_k p_k B_k A_k  =  [p_1 B_1, p_2 B_2, ...] @ [A_1; A_2; ...]

exactly, whatever the devices' ranks. Only B is weighted: weighting both would square p_k. The stack, of rank
sum_k r_k, is merged into everybody's base, and each device begins the next round with fresh factors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.aggregation.factors import Matrix
from server.aggregation.local import LocalModel, shares


def stacked_rank(models: Sequence[LocalModel]) -> int:
    """sum_k r_k."""
    return sum(model.lora.rank or 0 for model in models)


def stack(models: Sequence[LocalModel], index: int) -> tuple[Matrix, Matrix]:
    """The factors A [sum r, in] and B [out, sum r] of module `index` of the merge."""
    factors = [model.factors(index) for model in models]
    a = np.concatenate([a for a, _ in factors])
    b = np.concatenate([p * b for p, (_, b) in zip(shares(models), factors, strict=True)], axis=1)
    return a, b
