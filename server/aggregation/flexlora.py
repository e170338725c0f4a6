"""FlexLoRA: the mean of the local models, redistributed by SVD (Bai et al., arXiv 2402.11505).

sum_k p_k B_k A_k = U s Vt, module by module. The global adapter keeps the r largest singular values of the
largest rank r (A = Vt, B = U s); a device of rank r_k starts from the first r_k of them. The mean is exact;
what no device has the rank for is lost, and each round says how much that was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.aggregation.factors import Matrix, svd
from server.aggregation.flora import stack
from server.aggregation.local import LocalModel


def redistribute(models: Sequence[LocalModel], index: int, rank: int) -> tuple[Matrix, Matrix, float, float]:
    """A [rank, in] and B [out, rank] of module `index`; the squared Frobenius norms of what was cut off and
    of the whole mean."""
    a, b = stack(models, index)
    missing = rank - a.shape[0]
    if missing > 0:
        # An A of zero beside a B of zero would never learn again: any rows will do, B stays zero there.
        rows = np.random.default_rng(index).standard_normal((missing, a.shape[1]))
        a, b = np.concatenate([a, rows]), np.pad(b, ((0, 0), (0, missing)))
    left, values, right = svd(a, b)
    kept = min(rank, values.size)
    new_a, new_b = np.zeros((rank, a.shape[1])), np.zeros((b.shape[0], rank))
    new_a[:kept], new_b[:, :kept] = right[:kept], left[:, :kept] * values[:kept]
    squares = values**2
    return new_a, new_b, float(squares[kept:].sum()), float(squares.sum())
