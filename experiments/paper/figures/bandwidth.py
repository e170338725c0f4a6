"""Latency against bandwidth."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.figures import style
from experiments.paper.figures import marks
from experiments.paper.schemes import SCHEMES


def draw(tables: marks.Tables) -> Figure:
    """From `bandwidth`: a line a scheme, dotted its physical bound; a device on a link of its own."""
    table = tables["bandwidth"]
    figure = style.new_figure(5.4, 3.4)
    axes = figure.subplots()
    schemes = [name for name in SCHEMES if name in set(table["scheme"])]
    for scheme in schemes:
        own = table[table["scheme"] == scheme].sort_values("rate_up_bps")
        look = marks.LOOKS[scheme]
        axes.plot(own["rate_up_bps"] / 1e6, own["bound_s"], ":", color=look[0], linewidth=1)
        marks.curve(axes, own, "rate_up_bps", "own_s", look, x_unit=1e6)
    if not schemes:
        marks.nothing(axes)
    marks.log_axis(axes, "x", (1.0, 2.0, 5.0))
    marks.log_axis(axes, "y")
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("rate of the device's link, each way (Mbit/s)")
    axes.set_ylabel("down, training and up (s, emulated)")
    bound = Line2D([], [], color="black", linestyle=":", linewidth=1, label="bound: link + compute")
    marks.legend(figure, [*marks.scheme_handles(schemes), bound, *marks.state_handles(table)])
    marks.note(figure, tables["trials"], "bandwidth")
    return figure
