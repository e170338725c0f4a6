"""How well a score tells two sets apart: the area under the ROC curve with its interval, and points of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NORMAL_975 = 1.959964

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """`auc` with its 95 % interval, and the true positives' share at 1 and 5 % false positives."""

    auc: float
    auc_low: float
    auc_high: float
    tpr_at_1: float
    tpr_at_5: float


def separate(
    positive: Scores,
    negative: Scores,
    positive_groups: NDArray[Any] | None = None,
    negative_groups: NDArray[Any] | None = None,
) -> Separation:
    """Of scores that should be higher for positives. Examples of one group, which are alike, count as one
    draw; without groups each stands for itself. Raises ValueError where a set has fewer than two groups."""
    groups = (
        np.arange(len(positive)) if positive_groups is None else positive_groups,
        -1 - np.arange(len(negative)) if negative_groups is None else negative_groups,
    )
    area, error = auc(positive, negative, *groups)
    low, high = area - _NORMAL_975 * error, area + _NORMAL_975 * error
    return Separation(
        auc=area,
        auc_low=max(0.0, low),
        auc_high=min(1.0, high),
        tpr_at_1=true_positives(positive, negative, 0.01),
        tpr_at_5=true_positives(positive, negative, 0.05),
    )


def auc(
    positive: Scores, negative: Scores, positive_groups: NDArray[Any], negative_groups: NDArray[Any]
) -> tuple[float, float]:
    """P(positive > negative) + P(equal) / 2, and its standard error: DeLong et al. 1988 (Biometrics 44:837)
    for groups of one, Obuchowski 1997 (Biometrics 53:567) for larger ones, none of which has examples of
    both kinds. Raises ValueError."""
    placed_positive = _placement(positive, negative)
    placed_negative = 1 - _placement(negative, positive)
    area = float(placed_positive.mean())
    variance = 0.0
    for placed, groups in ((placed_positive, positive_groups), (placed_negative, negative_groups)):
        names, which = np.unique(groups, return_inverse=True)
        if len(names) < 2:
            raise ValueError("an interval needs two groups of each kind at least")
        excess = np.bincount(which, weights=placed - area)
        variance += len(names) / (len(names) - 1) * float(excess @ excess) / len(groups) ** 2
    return area, float(np.sqrt(variance))


def _placement(scores: Scores, others: Scores) -> Scores:
    """Of each score, the share of `others` that it is above; half of those it equals."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    upto = np.searchsorted(ordered, scores, side="right")
    placed: Scores = (below + upto) / (2 * len(others))
    return placed


def true_positives(positive: Scores, negative: Scores, false_positives: float) -> float:
    """Share of positives above the lowest threshold that at most this share of negatives is above."""
    allowed = int(false_positives * len(negative) + 1e-9)
    threshold = np.sort(negative)[::-1][allowed]
    return float((positive > threshold).mean())
