"""How far links are from what they were asked to be, against their rate: `fedcell bench links`."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments.bench.links_tables import METRICS
from experiments.bench.loads import BUSY, IDLE, TRAINING
from experiments.figures import style

_LOOKS = {
    IDLE: ("o", style.BLUE, 0.9),
    BUSY: ("^", style.ORANGE, 1.0),
    TRAINING: ("s", style.GREEN, 1.1),
}
"""Marker, colour, and how far beside its rate a point stands."""
_PANELS = ("rate", "rtt", "delay", "loss", "jitter", "gap", "queue", "goodput")
_COLUMNS, _FARTHEST = 4, 2.0


def draw(table: pd.DataFrame) -> Figure:
    """From links.csv: one panel a metric; each point one link and direction.

    Deviations are drawn as shares of what each check's own gate allows, so that metrics compare: the lines
    at -1 and +1 are the gates. What is farther off than the axis reaches stands at its end.
    """
    judged = table[table["of_gate"].notna()]
    shown = [m for name in _PANELS for m in METRICS if m.name == name and (judged["metric"] == name).any()]
    lines = max(1, -(-len(shown) // _COLUMNS))
    figure = style.new_figure(2.4 * min(_COLUMNS, max(1, len(shown))) + 0.4, 2.3 * lines + 0.5)
    grid = figure.subplots(lines, min(_COLUMNS, max(1, len(shown))), squeeze=False, sharex=True, sharey=True)
    far = min(_FARTHEST, max(1.15, 1.1 * float(judged["of_gate"].abs().max() or 0)))
    for axes, metric in zip(grid.flat, shown, strict=False):
        rows = judged[judged["metric"] == metric.name]
        for load, (marker, colour, beside) in _LOOKS.items():
            some = rows[rows["load"] == load.name]
            axes.plot(
                some["rate_bps"] / 1e6 * beside,
                some["of_gate"].clip(-0.97 * far, 0.97 * far),
                marker,
                color=colour,
                markersize=3.2,
                alpha=0.75,
                markeredgewidth=0,
            )
        for gate in (-1, 1):
            axes.axhline(gate, color=style.VERMILION, linewidth=1)
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_title(f"{metric.title}\n{metric.gate}", fontsize=8)
        axes.set_xscale("log")
        axes.set_ylim(-far, far)
    for axes in grid.flat[len(shown) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(0, len(shown) - _COLUMNS) : len(shown)]:
        axes.tick_params(labelbottom=True)
    ticks = sorted(table["rate_bps"].unique() / 1e6)
    grid[0][0].set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=7)
    grid[0][0].minorticks_off()
    figure.supxlabel("configured rate (Mbit/s)", fontsize=9)
    figure.supylabel("deviation / gate", fontsize=9)
    for load, (marker, colour, _) in _LOOKS.items():
        if (table["load"] == load.name).any():
            grid[0][0].plot([], [], marker, color=colour, label=load.title)
    grid[0][0].plot([], [], color=style.VERMILION, label="gate")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure
