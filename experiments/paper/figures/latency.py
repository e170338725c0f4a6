"""Training latency of a round by scheme, and of what phases it consists."""

from __future__ import annotations

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.figures import style
from experiments.paper.figures import marks
from experiments.paper.schemes import FAMILIES
from experiments.timeline import PHASES

_COLOURS = {phase: style.PHASE_COLOURS[phase] for phase in PHASES} | {
    "server": style.ORANGE,
    "other": "black",
}
_LABELS = {
    "gate": "waits for a core",
    "wait": "waits for others",
    "server": "the server trains",
    "other": "between phases",
}


def draw(tables: marks.Tables) -> Figure:
    """From `latency`: a row of panels a family. Left the latency, with the bound; right its phases stacked.

    Latencies lie orders of magnitude apart, so they stand on a logarithmic axis; what is stacked are shares,
    of the device that was last.
    """
    table = tables["latency"]
    figure = style.new_figure(7.2, 4.6)
    panels = figure.subplots(len(FAMILIES), 2, sharey="row", width_ratios=(1, 1.2))
    for (family, left), right in zip(zip(FAMILIES, panels[:, 0], strict=True), panels[:, 1], strict=True):
        rows = table[table["family"] == family].reset_index(drop=True)
        left.set_title(FAMILIES[family].title, fontsize=9, loc="left")
        if rows.empty:
            marks.nothing(left)
            continue
        _totals(left, rows)
        _phases(right, rows)
        left.set_yticks(range(len(rows)), [marks.title(name) for name in rows["scheme"]], fontsize=8)
        left.invert_yaxis()
    panels[-1, 0].set_xlabel("latency of a round (s, emulated)")
    panels[-1, 1].set_xlabel("share of it (%)")
    used = [phase for phase in _COLOURS if (table[f"{phase}_s"] > 1e-3 * table["latency_s"]).any()]
    handles: list[Artist] = [Patch(color=_COLOURS[phase], label=_LABELS.get(phase, phase)) for phase in used]
    handles.append(
        Line2D([], [], color="black", marker="|", linestyle="", markersize=9, label="bound, own link")
    )
    marks.legend(figure, [*handles, *marks.state_handles(table, bars=True)])
    marks.note(figure, tables["trials"], "schemes", "learning")
    return figure


def _totals(axes: Axes, rows: pd.DataFrame) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        axes.barh(place, row["latency_s"], 0.7, **marks.bar_look(row, style.GREY))
        half = row["latency_s_half"]
        if half == half:
            axes.errorbar(row["latency_s"], place, xerr=half, color="black", linewidth=0.8, capsize=2)
        axes.plot(row["bound_s"], place, "|", color="black", markersize=12)
        verdict = " ×INVALID" if not row["valid"] else ""
        axes.text(
            row["latency_s"], place, f"  {style.number(row['latency_s'])}{verdict}", va="center", fontsize=7
        )
    marks.log_axis(axes, "x")
    axes.set_xlim(rows["latency_s"].min() / 3, rows["latency_s"].max() * 8)
    axes.grid(axis="x", alpha=0.3)
    axes.grid(axis="y", visible=False)


def _phases(axes: Axes, rows: pd.DataFrame) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        left = 0.0
        for phase in _COLOURS:
            share = 100 * row[f"{phase}_s"] / row["latency_s"]
            axes.barh(place, share, 0.7, left=left, color=_COLOURS[phase])
            left += share
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
