"""Latency against round-trip time and packet loss, with CUBIC and BBR."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.figures import style
from experiments.paper.figures import marks

_LOOKS = {"cubic": (style.BLUE, "o"), "bbr": (style.ORANGE, "s")}


def draw(tables: marks.Tables) -> Figure:
    """From `paths`: left against the round-trip time at the loss of most points, right against loss."""
    table = tables["paths"]
    figure = style.new_figure(7.2, 3.0)
    left, right = figure.subplots(1, 2, sharey=True)
    if table.empty:
        marks.nothing(left)
    else:
        loss, rtt_s = _commonest(table["packet_loss"]), _commonest(table["rtt_s"])
        for control, own in table.groupby("congestion_control", sort=False):
            look = _LOOKS.get(str(control), (style.GREY, "D"))
            at_loss, at_rtt = own[own["packet_loss"] == loss], own[own["rtt_s"] == rtt_s]
            marks.curve(left, at_loss, "rtt_s", "own_s", look, x_unit=1e-3)
            marks.curve(right, at_rtt, "packet_loss", "own_s", look, x_unit=1e-2)
            for axes, rows, x, unit in (
                (left, at_loss, "rtt_s", 1e-3),
                (right, at_rtt, "packet_loss", 1e-2),
            ):
                rows = rows.sort_values(x)
                axes.plot(rows[x] / unit, rows["bound_s"], ":", color="black", linewidth=1)
        left.set_title(f"{loss:.1%} of packets lost each way", fontsize=9)
        right.set_title(f"round-trip time {rtt_s * 1e3:.0f} ms", fontsize=9)
    left.set_xlabel("round-trip time (ms)")
    right.set_xlabel("packet loss, each way (%)")
    left.set_ylabel("down, training and up (s)")
    marks.log_axis(left, "y", (1.0, 2.0, 3.0, 5.0))
    handles = [
        Line2D([], [], color=colour, marker=marker, label=name.upper())
        for name, (colour, marker) in _LOOKS.items()
    ]
    handles.append(Line2D([], [], color="black", linestyle=":", linewidth=1, label="bound: link + compute"))
    marks.legend(figure, [*handles, *marks.state_handles(table)])
    marks.note(figure, tables["trials"], "paths")
    return figure


def _commonest(values: pd.Series) -> float:
    return float(values.mode().iloc[0])
