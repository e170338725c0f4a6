"""The best factors of a lower rank: what a device of rank k can hold of a product of a higher rank.

It is the *product* B A that is approximated. Its factors come out in other coordinates than they went in,
for B and A are not determined by B A, so they may take factors' place, but not be averaged with others or
subtracted from them. That decides where truncation has a place: at the server, which gives every device the
best that its rank can hold of the mean product (FlexLoRA, arXiv 2402.11505), or sends a shorter merge than
the stack of all devices' factors. A device's update is a difference of factors; it is not truncated on its
way up, but trained at the rank that the device can send.
"""

from __future__ import annotations

import numpy as np

from proto.adapter import Vector
from proto.lora import LoraLayout


def truncate(b: Vector, a: Vector, rank: int) -> tuple[Vector, Vector]:
    """B [out, r], A [r, in] -> B' [out, rank], A' [rank, in], B' A' nearest to B A (Eckart and Young, 1936).

    Nearest in the Frobenius norm, which the singular values beyond `rank` make up. Each kept one is divided
    evenly between the factors, B' = U sqrt(S) and A' = sqrt(S) V^T, sorted, with the sign that makes the
    largest entry of each column of B' positive. Float32, computed in float64 from QR decompositions of the
    factors: O((out + in) r^2), and never a matrix of [out, in] (unless r is as large). Singular values that
    are zero, as all are beyond r, leave zeros in both factors, and what is zero in both no gradient can move.
    """
    q_b, r_b = np.linalg.qr(b.astype(np.float64))
    q_a, r_a = np.linalg.qr(a.astype(np.float64).T)
    u, singular, v = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    kept = min(rank, singular.size)
    roots = np.sqrt(singular[:kept])
    left, right = q_b @ u[:, :kept] * roots, (q_a @ v[:kept].T * roots).T
    signs = np.where(left[np.abs(left).argmax(axis=0), np.arange(kept)] < 0, -1.0, 1.0)
    new_b, new_a = np.zeros((b.shape[0], rank), np.float32), np.zeros((rank, a.shape[1]), np.float32)
    new_b[:, :kept], new_a[:kept] = left * signs, right * signs[:, None]
    return new_b, new_a


def truncate_adapter(layout: LoraLayout, vector: Vector, rank: int) -> Vector:
    """Every module of an adapter, shape (layout.layout.size,) -> (layout.with_rank(rank).size,)."""
    target = LoraLayout(layout.with_rank(rank))
    truncated = np.empty(target.layout.size, np.float32)
    for source, module in zip(layout.modules, target.modules, strict=True):
        a, b = layout.factors(vector, source)
        new_a, new_b = target.factors(truncated, module)
        new_b[...], new_a[...] = truncate(b, a, rank)
    return truncated
