"""Emulated against analytic latency, with the error."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.figures import style
from experiments.paper.figures import marks

_LOOKS = {
    "schemes": (style.BLUE, "o"),
    "secure": (style.PURPLE, "D"),
    "bandwidth": (style.ORANGE, "s"),
    "devices": (style.GREEN, "^"),
    "paths": (style.VERMILION, "v"),
    "allocation": (style.SKY, "P"),
    "learning": ("#555555", "h"),
    "privacy": (style.YELLOW, "X"),
}


def draw(tables: marks.Tables) -> Figure:
    """From `analytic`: a point a trial's mean round. Left one by the other, right what emulation adds."""
    table = tables["analytic"]
    figure = style.new_figure(7.2, 3.2)
    left, right = figure.subplots(1, 2)
    parts = [part for part in _LOOKS if part in set(table["part"])]
    for row in table.to_dict("records"):
        look = _LOOKS[row["part"]]
        marks.point(left, row["analytic_s"], row["latency_s"], look, row)
        marks.point(right, row["analytic_s"], 100 * row["error"], look, row, half=100 * row["error_half"])
    if table.empty:
        marks.nothing(left)
    else:
        ends = [0.7 * table["analytic_s"].min(), 1.4 * table[["analytic_s", "latency_s"]].max().max()]
        left.plot(ends, ends, color="black", linewidth=0.8, zorder=1)
        marks.log_axis(left, "x")
        marks.log_axis(left, "y")
        marks.log_axis(right, "x")
        right.set_yscale("symlog", linthresh=10)
        right.set_yticks([-10, -5, 0, 5, 10, 100, 1000], ["−10", "−5", "0", "5", "10", "100", "1000"])
        bottom, top = right.get_ylim()
        right.set_ylim(bottom, 1.6 * top)  # The marks of the highest point stay whole.
    right.axhline(0, color="black", linewidth=0.8)
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel("analytic latency of a round (s)")
    left.set_ylabel("emulated latency (s)")
    right.set_ylabel("emulated beyond analytic (%)")
    handles = [
        Line2D([], [], linestyle="", color=_LOOKS[part][0], marker=_LOOKS[part][1], label=part)
        for part in parts
    ]
    marks.legend(figure, [*handles, *marks.state_handles(table)])
    marks.note(figure, tables["trials"], *_LOOKS)
    return figure
