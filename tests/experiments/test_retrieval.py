"""Retrieval's numbers: shares, intervals and KID against what they are by definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.diffusion.data import DEVICE_STYLES
from client.diffusion.retrieval import STYLES, Answers
from experiments import retrieval
from experiments.retrieval import Kernel


def unit(random: np.random.Generator, count: int, width: int = 8, shift: float = 0.0) -> Any:
    vectors = random.standard_normal((count, width)) + shift
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


class Gallery:
    """As large as asked for, with random features."""

    def __init__(self, names: list[str]) -> None:
        self.names = np.array(names)
        random = np.random.default_rng(1)
        self.features = {style: unit(random, len(names)) for style in STYLES}

    def __len__(self) -> int:
        return len(self.names) * len(STYLES)


def answers(ranks: list[int], right: list[bool], names: list[str], styles: list[str]) -> Answers:
    features = unit(np.random.default_rng(2), len(ranks))
    return Answers(np.array(names), np.array(styles), np.array(ranks), np.array(right), features)


def test_kid_is_the_unbiased_estimate_by_its_definition() -> None:
    random = np.random.default_rng(0)
    drawn, real = unit(random, 5), unit(random, 7)

    def kernel(one: Any, other: Any) -> float:
        width = len(one)
        return float((np.dot(one * np.sqrt(width), other * np.sqrt(width)) / width + 1) ** 3)

    def within(vectors: Any) -> float:
        count = len(vectors)
        pairs = [kernel(vectors[i], vectors[j]) for i in range(count) for j in range(count) if i != j]
        return float(np.mean(pairs))

    across = np.mean([kernel(one, other) for one in drawn for other in real])
    names, others = np.arange(5), np.arange(5, 12)
    (found,) = Kernel(drawn, real, names, others).kid(np.ones((1, 5)), np.ones((1, 7)))
    assert found == pytest.approx(within(drawn) + within(real) - 2 * across, rel=1e-5)


def test_kid_is_zero_on_average_for_the_same_distribution_and_not_for_another() -> None:
    random = np.random.default_rng(0)
    names, others, ones = np.arange(40), np.arange(40, 80), np.ones((1, 40))

    def kid(shift: float = 0.0) -> float:
        kernel = Kernel(unit(random, 40), unit(random, 40, shift=shift), names, others)
        return float(kernel.kid(ones, ones)[0])

    same = [kid() for _ in range(100)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 10 and min(same) < 0 < max(same)
    assert kid(shift=0.5) > 5 * np.std(same)


def test_drawings_of_one_name_are_no_pair_however_often_they_are_counted() -> None:
    random = np.random.default_rng(0)
    drawn, real = unit(random, 4), unit(random, 3)
    names, others = np.array([0, 0, 1, 2]), np.array([0, 1, 3])
    weights, ones = np.array([[1.0, 2.0, 3.0, 0.0]]), np.ones((1, 3))

    def cubic(one: Any, other: Any) -> Any:
        return (one.astype(float) @ other.astype(float).T + 1) ** 3

    def mean(one: Any, other: Any, these: Any, those: Any, left: Any, right: Any) -> float:
        share = np.outer(left, right) * (these[:, None] != those)
        return float((cubic(one, other) * share).sum() / share.sum())

    (found,) = Kernel(drawn, real, names, others).kid(weights, ones)
    expected = mean(drawn, drawn, names, names, weights, weights)
    expected += mean(real, real, others, others, ones, ones)
    expected -= 2 * mean(drawn, real, names, others, weights, ones)
    assert found == pytest.approx(expected, rel=1e-5)


def test_intervals_hold_what_they_are_of() -> None:
    names = [f"thing-{i}" for i in range(40)]
    gallery: Any = Gallery(names)
    for name in gallery.features:
        gallery.features[name] = unit(np.random.default_rng(3), 40, shift=0.3)
    asked = names[:20] * 2
    styles = [DEVICE_STYLES[0]] * 20 + [DEVICE_STYLES[1]] * 20
    features = unit(np.random.default_rng(4), 40)
    ranks = np.random.default_rng(5).integers(1, 9, 40)
    given = Answers(np.array(asked), np.array(styles), ranks, ranks < 4, features)
    for row in retrieval.rows("round 1", "known", given, gallery):
        for name in retrieval.MEASURES:
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"], (name, row)
            middle = (row[f"{name}_low"] + row[f"{name}_high"]) / 2
            assert abs(row[name] - middle) < 0.35 * (row[f"{name}_high"] - row[f"{name}_low"])


def test_rows_are_shares_by_style_and_over_all_within_their_intervals() -> None:
    names = [f"thing-{i}" for i in range(10)]
    gallery: Any = Gallery(names)
    ranks, right, asked, styles = [], [], [], []
    for style in DEVICE_STYLES:
        for index, name in enumerate(names):
            asked.append(name)
            styles.append(style)
            ranks.append(1 if index < 4 else 3 if index < 7 else 20)
            right.append(style == DEVICE_STYLES[0])
    table = pd.DataFrame(retrieval.rows("round 3", "unseen", answers(ranks, right, asked, styles), gallery))
    assert table["style"].tolist() == [*DEVICE_STYLES, "all"]
    assert table["queries"].tolist() == [10, 10, 10, 30]
    assert table["recall_at_1"].tolist() == [0.4] * 4
    assert table["recall_at_5"].tolist() == pytest.approx([0.7] * 4)
    assert table["style_accuracy"].tolist() == pytest.approx([1, 0, 0, 1 / 3])
    for name in retrieval.MEASURES:
        assert (table[f"{name}_low"] <= table[f"{name}_high"]).all()
    # Every style says the same of a name, so thirty queries know no more than ten: by names, not by queries.
    width = table["recall_at_1_high"] - table["recall_at_1_low"]
    assert width.iloc[3] == pytest.approx(width.iloc[0], abs=0.11) and width.iloc[3] > 0.4


def test_chance_is_one_drawing_in_the_gallery_and_one_style_in_four() -> None:
    gallery: Any = Gallery(["a", "b", "c", "d", "e"])
    row = retrieval.chance_row("known", gallery)
    assert (row["recall_at_1"], row["recall_at_5"], row["style_accuracy"]) == (1 / 20, 1 / 4, 1 / 4)
    (line,) = retrieval.describe(pd.DataFrame([row]))
    assert line.split() == ["chance", "known", "R@1", "5.0%,", "R@5", "25.0%,", "style", "25.0%"]
