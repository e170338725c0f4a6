"""What privacy buys and costs: membership inference and held-out loss against epsilon, by scheme."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from experiments.figures import style

_LOOKS = tuple(
    zip(
        (style.BLUE, style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY, "black"),
        ("o", "s", "^", "D", "v", "P", "X"),
        strict=True,
    )
)
_BESIDE = 1.06
"""Schemes of one epsilon stand so far apart, as a factor."""
_BEYOND = 4.0
"""Infinity stands so far from the largest epsilon, as a factor."""


def draw(table: pd.DataFrame, looks: Mapping[str, tuple[str, str]] | None = None) -> Figure:
    """Left the attack's AUC with its interval, right the held-out loss; a line a scheme, a point a run.

    Columns: scheme, epsilon (inf: no privacy was asked for), auc, auc_low, auc_high, loss, valid. Points that
    are not valid are crosses, and no line goes through them. `looks`: colour and marker of each scheme, where
    they are to be those of other figures.
    """
    figure = style.new_figure(8.0, 3.4)
    left, right = figure.subplots(1, 2)
    finite = sorted({float(value) for value in table["epsilon"] if math.isfinite(value)})
    infinity = _BEYOND * (finite[-1] if finite else 1.0)
    schemes = list(dict.fromkeys(table["scheme"].astype(str)))
    looks = looks or dict(zip(schemes, itertools.cycle(_LOOKS), strict=False))
    for place, scheme in enumerate(schemes):
        look = looks[scheme]
        rows = table[table["scheme"] == scheme].sort_values("epsilon")
        shift = _BESIDE ** (place - (len(schemes) - 1) / 2)
        rows = rows.assign(place=shift * rows["epsilon"].replace(np.inf, infinity))
        _line(left, rows, "auc", look, scheme)
        left.vlines(rows["place"], rows["auc_low"], rows["auc_high"], color=look[0], linewidth=1)
        _line(right, rows, "loss", look, scheme)
    left.axhline(0.5, color=style.GREY, linestyle="--", linewidth=1, zorder=0)
    under = {"xycoords": left.get_yaxis_transform(), "ha": "right", "va": "top"}
    left.annotate("chance", (0.99, 0.5), fontsize=7, **under)
    left.set_ylabel("AUC of membership inference")
    right.set_ylabel("held-out denoising loss")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks([*finite, infinity], [*map(style.number, finite), "∞"])
        axes.set_xlim((finite[0] if finite else infinity) / 2, 2 * infinity)
        axes.set_xlabel("ε of a device (∞: no noise)")
    handles, names = left.get_legend_handles_labels()
    if not table["valid"].all():
        handles.append(Line2D([], [], linestyle="", marker="x", color="dimgrey"))
        names.append("INVALID")
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _line(axes: Axes, rows: pd.DataFrame, column: str, look: tuple[str, str], scheme: str) -> None:
    """One scheme in one panel: points in order of epsilon, the way to infinity dotted."""
    colour, marker = look
    valid = rows[rows["valid"].astype(bool)]
    axes.plot(valid["place"], valid[column], marker, color=colour, markersize=5, label=scheme)
    near = valid[np.isfinite(valid["epsilon"])]
    axes.plot(near["place"], near[column], color=colour, linewidth=1)
    beyond = valid[len(near) - 1 :] if len(near) else valid[:0]
    axes.plot(beyond["place"], beyond[column], ":", color=colour, linewidth=1)
    wrong = rows[~rows["valid"].astype(bool)]
    axes.plot(wrong["place"], wrong[column], "x", color=colour, markersize=7)
