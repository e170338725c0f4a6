"""What is learned, by rounds and by time: held-out loss and style retrieval."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from experiments.figures import style
from experiments.paper.figures import marks
from experiments.paper.schemes import SCHEMES


def draw(tables: marks.Tables) -> Figure:
    """From `learning` and `retrieval`: a line a scheme; left against rounds, right against emulated time."""
    losses, found = tables["learning"], tables["retrieval"]
    schemes = [name for name in SCHEMES if name in set(losses["scheme"])]
    figure = style.new_figure(7.2, 5.0)
    panels = figure.subplots(2, 2, sharey="row", sharex="col")
    for column, (x, label) in enumerate((("round", "round"), ("time_s", "emulated time (s)"))):
        for scheme in schemes:
            look = marks.LOOKS[scheme]
            marks.curve(panels[0, column], losses[losses["scheme"] == scheme], x, "loss", look)
        _retrieval(panels[1, column], found, x)
        panels[1, column].set_xlabel(label)
        if x == "time_s":
            for axes in panels[:, column]:
                _time_axis(axes, losses)
        elif not losses.empty:
            panels[1, column].xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in panels[:, column]:
            axes.grid(axis="x", alpha=0.3)
    panels[0, 0].set_ylabel("held-out denoising loss")
    panels[1, 0].set_ylabel("drawn in the right style (%)")
    marks.legend(figure, [*marks.scheme_handles(schemes), *marks.state_handles(losses)])
    marks.note(figure, tables["trials"], "learning")
    return figure


def _retrieval(axes: Axes, found: pd.DataFrame, x: str) -> None:
    """With its bootstrap intervals; chance and ceiling as lines."""
    if found.empty:
        return marks.nothing(axes)
    first = found["names"].iloc[0]
    for name, line in (("chance", ":"), ("ceiling", "-.")):
        level = found[(found["scheme"] == name) & (found["names"] == first)]["style_accuracy"]
        for value in level:
            axes.axhline(100 * value, color="black", linewidth=0.8, linestyle=line)
            axes.text(
                1,
                100 * value,
                f"{name} ",
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=6.5,
            )
    shown = [scheme for scheme in SCHEMES if scheme in set(found["scheme"])]
    for place, scheme in enumerate(shown):
        own = found[(found["scheme"] == scheme) & (found["names"] == first)].sort_values("round")
        # Beside each other, or their intervals would lie in one line.
        aside = 0.0 if x == "time_s" else (place - len(shown) / 2) * 0.012 * max(1, found["round"].max())
        colour, marker = marks.LOOKS[scheme]
        middle = 100 * own["style_accuracy"]
        spread = [middle - 100 * own["style_accuracy_low"], 100 * own["style_accuracy_high"] - middle]
        axes.errorbar(
            own[x] + aside,
            middle,
            spread,
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.2,
            elinewidth=0.5,
        )


def _time_axis(axes: Axes, losses: pd.DataFrame) -> None:
    """Logarithmic from when the first round of any scheme has ended; before that linear, to have 0 too."""
    times = losses.loc[losses["time_s"] > 0, "time_s"]
    if times.empty:
        return
    axes.set_xscale("symlog", linthresh=times.min(), linscale=0.4)
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = times.min(), times.max()
    candidates = LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(low, high)
    ticks = [0.0, *(tick for tick in candidates if low <= tick <= high)]
    axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.set_xlim(-0.1 * times.min(), 1.4 * times.max())
