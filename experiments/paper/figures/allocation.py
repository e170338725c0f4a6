"""How a cell's bandwidth is divided: what each policy makes of a round, and of each device's part in it."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from experiments.figures import style
from experiments.paper.figures import marks
from experiments.paper.tables import OWN_PHASES


def draw(tables: marks.Tables) -> Figure:
    """From `allocation` and `allocation_by_device`: a group of bars a policy, in it a bar a device by phases;
    above them the round's latency and what the analytic model says."""
    table, by_device = tables["allocation"], tables["allocation_by_device"]
    figure = style.new_figure(7.2, 3.2)
    axes = figure.subplots()
    clients = sorted(set(by_device["client"]), key=lambda name: (len(name), name))
    pitch = len(clients) + 1.5
    names: dict[float, str] = {}
    for group, row in enumerate(table.to_dict("records")):
        begin = group * pitch
        ends = [begin - 0.6, begin + len(clients) - 0.4]
        axes.plot(ends, [row["latency_s"]] * 2, color="black", linewidth=1.4)
        axes.plot(ends, [row["analytic_s"]] * 2, color="black", linewidth=1, linestyle=":")
        verdict = "" if row["valid"] else "\n×INVALID"
        axes.text(
            sum(ends) / 2,
            row["latency_s"],
            f"{row['latency_s']:.1f} s{verdict}",
            ha="center",
            va="bottom",
            fontsize=8,
        )
        own = by_device[by_device["policy"] == row["policy"]]
        for device in own.to_dict("records"):
            place, height = begin + clients.index(device["client"]), 0.0
            for phase in OWN_PHASES:
                seconds = device[f"{phase}_s"]
                if seconds > 0:
                    axes.bar(place, seconds, 0.85, bottom=height, color=style.PHASE_COLOURS[phase])
                    height += seconds
            names[place] = device["profile"]
    middles = [group * pitch + (len(clients) - 1) / 2 for group in range(len(table))]
    axes.set_xticks(list(names), list(names.values()), rotation=90, fontsize=6)
    groups = axes.secondary_xaxis(-0.29)  # Below the names of the devices.
    groups.set_xticks(middles, table["policy"])
    groups.tick_params(length=0)
    groups.spines["bottom"].set_visible(False)
    axes.set_ylabel("time in the round (s, emulated)")
    if table.empty:
        marks.nothing(axes)
    else:
        axes.set_ylim(0, 1.15 * table["latency_s"].max())
    handles: list[Artist] = [Patch(color=style.PHASE_COLOURS[phase], label=phase) for phase in OWN_PHASES]
    handles += [
        Line2D([], [], color="black", linewidth=1.4, label="round"),
        Line2D([], [], color="black", linewidth=1, linestyle=":", label="round, analytic model"),
    ]
    marks.legend(figure, [*handles, *marks.state_handles(table)])
    marks.note(figure, tables["trials"], "allocation")
    return figure
