"""The area under the curve is the share of pairs in order, and its interval that of the formula's authors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.roc import auc, separate, true_positives

SCORES = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=15).map(np.array)


def pairs(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    """1 where the positive is above, a half where they are equal."""
    above = positive[:, None] > negative[None]
    return above + (positive[:, None] == negative[None]) / 2


@given(positive=SCORES, negative=SCORES)
def test_it_is_the_share_of_pairs_in_order_with_delong_s_error(
    positive: np.ndarray, negative: np.ndarray
) -> None:
    found = separate(positive, negative)
    kernel = pairs(positive, negative)
    assert found.auc == pytest.approx(kernel.mean())
    error = np.sqrt(
        kernel.mean(axis=1).var(ddof=1) / len(positive) + kernel.mean(axis=0).var(ddof=1) / len(negative)
    )
    assert found.auc_low == pytest.approx(max(0, found.auc - 1.959964 * error), abs=1e-9)
    assert found.auc_high == pytest.approx(min(1, found.auc + 1.959964 * error), abs=1e-9)


@given(positive=SCORES, negative=SCORES, copies=st.integers(2, 4))
def test_copies_of_an_example_tell_no_more_than_one(
    positive: np.ndarray, negative: np.ndarray, copies: int
) -> None:
    groups = np.arange(len(positive)), 100 + np.arange(len(negative))
    once = auc(positive, negative, *groups)
    again = auc(
        np.repeat(positive, copies),
        np.repeat(negative, copies),
        np.repeat(groups[0], copies),
        np.repeat(groups[1], copies),
    )
    assert again == pytest.approx(once)


def test_the_interval_holds_what_it_says() -> None:
    """Two normals a standard deviation apart, in families that share half of their variance: AUC 0.76."""
    chance = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        families = chance.normal(0, np.sqrt(0.5), (2, 30))
        scores = families[:, :, None] + chance.normal(0, np.sqrt(0.5), (2, 30, 4))
        groups = np.repeat(np.arange(60).reshape(2, 30), 4, axis=1)
        found = separate(scores[0].ravel() + 1, scores[1].ravel(), groups[0], groups[1])
        inside += found.auc_low <= 0.76025 <= found.auc_high
    assert 0.91 <= inside / 400 <= 0.99


@given(positive=SCORES, negative=SCORES, share=st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5]))
def test_true_positives_are_the_most_that_so_few_false_alarms_allow(
    positive: np.ndarray, negative: np.ndarray, share: float
) -> None:
    best = max(
        (positive > threshold).mean()
        for threshold in [*negative, *positive, np.inf]
        if (negative > threshold).mean() <= share
    )
    assert true_positives(positive, negative, share) == pytest.approx(best)


def test_one_family_has_no_interval() -> None:
    scores = np.array([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="two groups"):
        separate(scores, scores, np.zeros(3), np.arange(1, 4))
