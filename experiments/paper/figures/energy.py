"""Time and energy of a device's round: what each scheme costs each kind of device."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.figures import style
from experiments.paper.figures import marks
from experiments.paper.schemes import SCHEMES

_MARKERS = "osD^vP"
_RING: dict[str, Any] = {
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgecolor": "black",
    "markeredgewidth": 0.6,
}


def draw(tables: marks.Tables) -> Figure:
    """From `energy`: a colour a scheme, a marker a device profile; left all of it, right what it is for."""
    table = tables["energy"]
    table = table[table["energy_j"].notna()]
    figure = style.new_figure(7.2, 3.6)
    left, right = figure.subplots(1, 2)
    profiles = sorted(set(table["profile"]))
    schemes = [name for name in SCHEMES if name in set(table["scheme"])]
    signs = {profile: _MARKERS[number % len(_MARKERS)] for number, profile in enumerate(profiles)}
    for row in table.to_dict("records"):
        look = (marks.LOOKS[row["scheme"]][0], signs[row["profile"]])
        marks.point(left, row["own_s"], row["energy_j"], look, row)
        if not row["feasible"]:
            left.plot(row["own_s"], row["energy_j"], "o", **_RING)
        for joules, axes_x in ((row["energy_compute_j"], 0), (row["energy_radio_j"], 1)):
            if joules > 0:
                shift = 0.6 * (schemes.index(row["scheme"]) / max(1, len(schemes) - 1) - 0.5)
                marks.point(right, axes_x + shift, joules, look, row)
    if table.empty:
        marks.nothing(left)
    else:
        marks.log_axis(left, "x")
        marks.log_axis(left, "y")
        marks.log_axis(right, "y")
    left.grid(axis="x", alpha=0.3)
    left.set_xlabel("down, training and up (s, emulated)")
    left.set_ylabel("energy of a device's round (J)")
    right.set_xticks([0, 1], ["training", "radio"])
    right.set_xlim(-0.5, 1.5)
    handles = [Line2D([], [], color=marks.LOOKS[s][0], linewidth=4, label=marks.title(s)) for s in schemes]
    handles += [
        Line2D([], [], linestyle="", color="#555555", marker=sign, label=name) for name, sign in signs.items()
    ]
    if not table["feasible"].all():
        handles.append(Line2D([], [], linestyle="", marker="o", label="lacks the memory", **_RING))
    marks.legend(figure, [*handles, *marks.state_handles(table)])
    marks.note(figure, tables["trials"], "schemes")
    return figure
