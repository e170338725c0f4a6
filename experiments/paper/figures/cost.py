"""Communication cost by scheme: of the mean round, and in total against rounds."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.figures import style
from experiments.paper.figures import marks
from experiments.paper.schemes import CENTRAL, FAMILIES, SCHEMES

_AHEAD = 100
"""Rounds to which totals are carried on, dashed, by what a round after the first takes."""
_WAYS = {"up": style.BLUE, "down": style.SKY}


def draw(tables: marks.Tables) -> Figure:
    """From `cost` and `cost_by_round`: a row of panels a family; MB on the wire of the mean device."""
    cost, by_round = tables["cost"], tables["cost_by_round"]
    figure = style.new_figure(7.2, 5.2)
    panels = figure.subplots(len(FAMILIES), 2)
    for (family, left), right in zip(zip(FAMILIES, panels[:, 0], strict=True), panels[:, 1], strict=True):
        _bars(left, cost[cost["family"] == family])
        _totals(right, by_round[by_round["family"] == family])
        left.set_title(FAMILIES[family].title, fontsize=9, loc="left")
    panels[-1, 0].set_xlabel("of a round, mean (MB)")
    panels[-1, 1].set_xlabel("round (dashed: carried on)")
    handles: list[Artist] = [Patch(color=colour, label=way) for way, colour in _WAYS.items()]
    handles += marks.scheme_handles(name for name in SCHEMES if name in set(by_round["scheme"]))
    marks.legend(figure, [*handles, *marks.state_handles(cost, bars=True)])
    marks.note(figure, tables["trials"], "schemes", "learning")
    return figure


def _bars(axes: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        return marks.nothing(axes)
    sent = rows[["up_bytes", "down_bytes"]].to_numpy(float) / 1e6
    least = np.nanmin(sent[sent > 1e-3], initial=1.0) / 5
    for place, row in enumerate(rows.to_dict("records")):
        for offset, (way, colour) in zip((-0.2, 0.2), _WAYS.items(), strict=True):
            megabytes = row[f"{way}_bytes"] / 1e6
            if not megabytes > least:
                axes.text(least, place + offset, f" {megabytes * 1e3:.2g} kB", va="center", fontsize=6.5)
                continue
            axes.barh(place + offset, megabytes, 0.38, **marks.bar_look(row, colour))
            half = row[f"{way}_bytes_half"] / 1e6
            if half == half:
                axes.errorbar(megabytes, place + offset, xerr=half, color="black", linewidth=0.8)
            cross = " ×INVALID" if not row["valid"] else ""
            axes.text(
                megabytes, place + offset, f" {style.number(megabytes)}{cross}", va="center", fontsize=6.5
            )
    marks.log_axis(axes, "x")
    axes.set_xlim(least, np.nanmax(sent) * 12)
    axes.set_yticks(range(len(rows)), [marks.title(name) for name in rows["scheme"]], fontsize=8)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.grid(axis="y", visible=False)


def _totals(axes: Axes, rows: pd.DataFrame) -> None:
    """Local training sends nothing, and has no place on a logarithmic axis."""
    rows = rows[rows["total_bytes"] > 1e3]
    if rows.empty:
        return marks.nothing(axes)
    for scheme, own in rows.groupby("scheme", sort=False):
        look = marks.LOOKS[str(scheme)]
        marks.curve(axes, own, "round", "total_bytes", look, y_unit=1e6)
        good = own[own["valid"]].sort_values("round")
        if len(good) > 1:
            last, steps = good.iloc[-1], np.diff(good["total_bytes"])
            ahead = np.arange(last["round"], _AHEAD + 1)
            # Central training has sent its images, and its adapter goes down once, whenever that is.
            more = 0 if scheme == CENTRAL else steps.mean()
            carried = last["total_bytes"] + (ahead - last["round"]) * more
            axes.plot(ahead, carried / 1e6, "--", color=look[0], linewidth=0.9)
    marks.log_axis(axes, "x")
    marks.log_axis(axes, "y")
    axes.set_ylabel("in total (MB)")
    axes.grid(axis="x", alpha=0.3)
