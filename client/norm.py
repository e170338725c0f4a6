"""The L2 norm of a vector, in float64 and without a copy of it."""

from __future__ import annotations

import math

import numpy as np

from proto.adapter import Vector
from proto.segments import SEGMENT_VALUES


def l2_norm(vector: Vector) -> float:
    """Of a vector of shape (size,); NaN or Inf where its values are."""
    parts = range(0, vector.size, SEGMENT_VALUES)
    return math.sqrt(sum(square(vector[start : start + SEGMENT_VALUES]) for start in parts))


def square(values: Vector) -> float:
    """Sum of squares."""
    wide = values.astype(np.float64)
    return float(np.dot(wide, wide))
