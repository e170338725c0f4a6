"""Products of factors B @ A of one module, in float64, without ever making the dense matrix."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def svd(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """B @ A of A [R, in] and B [out, R] as U [out, n], s [n], Vt [n, in], n = min(R, in, out).

    QR on either side leaves a core no larger than R; rows of Vt are orthonormal even where s is zero.
    """
    if a.shape[0] >= min(a.shape[1], b.shape[0]):
        left, values, right = np.linalg.svd(b @ a, full_matrices=False)
        return left, values, right
    q_b, r_b = np.linalg.qr(b)
    q_a, r_a = np.linalg.qr(a.T)
    left, values, right = np.linalg.svd(r_b @ r_a.T)
    return q_b @ left, values, right @ q_a.T


def nearest(a: Matrix, b: Matrix, rank: int) -> tuple[Matrix, Matrix, float]:
    """Factors A' [rank, in] and B' [out, rank], or of less rank, and the square of what they miss.

    No product of that rank is nearer to B @ A in the Frobenius norm (Eckart and Young, 1936).
    Nothing is missed where rank >= min(R, in, out).
    """
    if a.shape[0] <= rank:
        return a, b, 0.0
    left, values, right = svd(a, b)
    return right[:rank], left[:, :rank] * values[:rank], float((values[rank:] ** 2).sum())


def square_norm(a: Matrix, b: Matrix) -> float:
    """Squared Frobenius norm of B @ A: the trace of (B^T B)(A A^T)."""
    return max(0.0, float(np.sum((b.T @ b) * (a @ a.T))))


def norm(a: Matrix, b: Matrix) -> float:
    """Frobenius norm of B @ A."""
    return math.sqrt(square_norm(a, b))
