"""From answers to numbers: R@1, R@5, style accuracy and KID, each with its interval, beside chance.

Intervals are 95 % percentiles of a bootstrap over names: drawings of one name in several styles are alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from client.diffusion.data import DEVICE_STYLES
from client.diffusion.dual_encoder import Embeddings
from client.diffusion.retrieval import STYLES, Answers, Gallery

ALL = "all"
SHARES = ("recall_at_1", "recall_at_5", "style_accuracy")
MEASURES = (*SHARES, "kid")
RESAMPLES = 1000

Weights = NDArray[np.float64]


def rows(source: str, names: str, answers: Answers, gallery: Gallery) -> list[dict[str, Any]]:
    """A row for each style asked for, and one for all of them: the measures with `_low` and `_high`."""
    asked = [style for style in DEVICE_STYLES if style in set(answers.styles.tolist())]
    found = []
    for style in (*asked, ALL):
        mine = np.flatnonzero((answers.styles == style) | (style == ALL))
        real_styles = asked if style == ALL else [style]
        real = np.concatenate([gallery.features[one] for one in real_styles])
        real_names = np.tile(gallery.names, len(real_styles))
        row: dict[str, Any] = {"source": source, "names": names, "style": style, "queries": len(mine)}
        row |= measure(answers, mine, real, real_names)
        found.append(row)
    return found


def chance_row(names: str, gallery: Gallery) -> dict[str, Any]:
    """What a blind guess reaches."""
    row: dict[str, Any] = {"source": "chance", "names": names, "style": ALL, "queries": 0}
    guess = {"recall_at_1": 1 / len(gallery), "recall_at_5": 5 / len(gallery)}
    guess["style_accuracy"] = 1 / len(STYLES)
    for name in MEASURES:
        row |= {name: guess.get(name, np.nan), f"{name}_low": np.nan, f"{name}_high": np.nan}
    return row


def measure(
    answers: Answers, which: NDArray[np.int64], real: Embeddings, real_names: NDArray[np.str_]
) -> dict[str, float]:
    """The measures of the answers `which`, their drawings against the `real` ones of the same styles."""
    ranks, right = answers.ranks[which], answers.right_style[which]
    outcomes = np.stack([ranks <= 1, ranks <= 5, right]).astype(float)
    names, own = np.unique(np.concatenate([answers.names[which], real_names]), return_inverse=True)
    asked, there = own[: len(which)], own[len(which) :]
    kernel = Kernel(answers.features[which], real, asked, there)
    # Each resample draws names, a query's and the gallery's: both of a name come or stay away together.
    of_queries = np.unique(asked)
    random = np.random.default_rng(0)
    counts = np.zeros((RESAMPLES, len(names)))
    for group in (of_queries, np.setdiff1d(np.arange(len(names)), of_queries)):
        drawn = random.integers(0, max(1, len(group)), (RESAMPLES, len(group)))
        for resample, chosen in enumerate(drawn):
            counts[resample, group] = np.bincount(chosen, minlength=len(group))
    weights = counts[:, asked]
    shares = weights @ outcomes.T / weights.sum(axis=1, keepdims=True)
    resampled = np.column_stack([shares, kernel.kid(weights, counts[:, there])])
    values = [*outcomes.mean(axis=1), kernel.kid(np.ones((1, len(asked))), np.ones((1, len(there))))[0]]
    low, high = np.nanpercentile(resampled, [2.5, 97.5], axis=0)
    result: dict[str, float] = {}
    for index, name in enumerate(MEASURES):
        result |= {
            name: float(values[index]),
            f"{name}_low": float(low[index]),
            f"{name}_high": float(high[index]),
        }
    return result


class Kernel:
    """Kernel Inception Distance's estimate (arXiv 1801.01401), on these features: the unbiased squared
    maximum mean discrepancy by the cubic kernel (x.y / d + 1)^3; of unit vectors times sqrt(d):
    (cos + 1)^3. Drawings of one name, itself or in another style, are no independent pair and left out."""

    def __init__(
        self, drawn: Embeddings, real: Embeddings, drawn_names: NDArray[Any], real_names: NDArray[Any]
    ) -> None:
        self._drawn = _Pairs(drawn, drawn, drawn_names, drawn_names)
        self._real = _Pairs(real, real, real_names, real_names)
        self._across = _Pairs(drawn, real, drawn_names, real_names)

    def kid(self, drawn: Weights, real: Weights) -> NDArray[np.float64]:
        """With each drawing counted so often, [cases, drawings] -> [cases]."""
        found: NDArray[np.float64] = (
            self._drawn.mean(drawn, drawn) + self._real.mean(real, real) - 2 * self._across.mean(drawn, real)
        )
        return found


class _Pairs:
    """The kernel of each pair of different names."""

    def __init__(
        self, left: Embeddings, right: Embeddings, left_names: NDArray[Any], right_names: NDArray[Any]
    ) -> None:
        self._apart = (left_names[:, None] != right_names).astype(float)
        self._kernel = (left.astype(float) @ right.astype(float).T + 1) ** 3 * self._apart

    def mean(self, left: Weights, right: Weights) -> NDArray[np.float64]:
        """NaN where no pair is left."""
        total, count = (((left @ matrix) * right).sum(axis=1) for matrix in (self._kernel, self._apart))
        found: NDArray[np.float64] = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        return found


def describe(table: pd.DataFrame) -> list[str]:
    """A few lines for people: all styles together, a line a source and split of names."""
    lines = []
    for row in table[table["style"] == ALL].to_dict("records"):
        cells = [
            f"{title} {_share(row, name)}"
            for name, title in (("recall_at_1", "R@1"), ("recall_at_5", "R@5"), ("style_accuracy", "style"))
        ]
        if row["kid"] == row["kid"]:
            cells.append(f"KID {row['kid']:.3f} ({row['kid_low']:.3f} to {row['kid_high']:.3f})")
        lines.append(f"  {row['source']:<10} {row['names']:<7} {', '.join(cells)}")
    return lines


def _share(row: dict[Any, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    between = f" ({low:.1%} to {high:.1%})" if low == low else ""
    return f"{row[name]:.1%}{between}"
