"""Latency against the number of devices that share a cell."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.figures import style
from experiments.paper.figures import marks
from experiments.paper.schemes import SCHEMES


def draw(tables: marks.Tables) -> Figure:
    """From `devices`: a line a scheme, dotted what the analytic model says."""
    table = tables["devices"]
    figure = style.new_figure(5.2, 3.2)
    axes = figure.subplots()
    schemes = [name for name in SCHEMES if name in set(table["scheme"])]
    for scheme in schemes:
        own = table[table["scheme"] == scheme].sort_values("devices")
        axes.plot(own["devices"], own["analytic_s"], ":", color=marks.LOOKS[scheme][0], linewidth=1)
        marks.curve(axes, own, "devices", "latency_s", marks.LOOKS[scheme])
    if not schemes:
        marks.nothing(axes)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes := sorted(set(table["devices"])), [f"{size:g}" for size in sizes])
    marks.log_axis(axes, "y", (1.0, 2.0, 5.0))
    axes.set_xlabel("devices in the cell")
    axes.set_ylabel("latency of a round (s, emulated)")
    model = Line2D([], [], color="black", linestyle=":", linewidth=1, label="analytic model")
    marks.legend(figure, [*marks.scheme_handles(schemes), model, *marks.state_handles(table)])
    marks.note(figure, tables["trials"], "devices")
    return figure
