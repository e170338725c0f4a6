"""Latency by phase, stacked, for each round and device, beside its physical bound."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from experiments.figures import style
from experiments.timeline import PHASES, SECURE_PHASES

_ORDER = (SECURE_PHASES[0], *PHASES[:-1], SECURE_PHASES[1], PHASES[-1])

_LABELS = {"gate": "waits for a core", "wait": "waits for others"}


def draw(clients: pd.DataFrame) -> Figure:
    """From clients.csv: a group of bars a round, a bar a device, a tick at each device's bound."""
    rounds = sorted(clients["round"].unique())
    devices = sorted(clients["client"].unique(), key=lambda name: (len(name), name))
    pitch = len(devices) + 1
    figure = style.new_figure(max(6.0, 0.28 * pitch * len(rounds) + 2), 3.6)
    axes = figure.subplots()
    places, names = [], []
    for row in clients.to_dict("records"):
        place = rounds.index(row["round"]) * pitch + devices.index(row["client"])
        places.append(place)
        names.append(row["client"].removeprefix("dev"))
        height = 0.0
        if row.get("remote") and pd.notna(row["turnaround_s"]):
            height = row["turnaround_s"]
            axes.bar(place, height, color="white", edgecolor="grey", hatch="//", width=0.9)
        for phase in _ORDER:
            seconds = row.get(f"{phase}_s")
            if pd.notna(seconds):
                colour = style.PHASE_COLOURS[phase]
                axes.bar(place, seconds, bottom=height, color=colour, width=0.9, **style.bar_style(row))
                height += seconds
        if row["outcome"] != "finished":
            axes.text(
                place, height, f" {row['outcome'].split(':')[0]}", rotation=90, ha="center", va="bottom"
            )
        if pd.notna(row["bound_s"]):
            axes.plot([place - 0.45, place + 0.45], [row["bound_s"]] * 2, color="black", linewidth=1.2)
    axes.set_xticks(places, names, fontsize=7)
    for index, number in enumerate(rounds):
        middle = index * pitch + (len(devices) - 1) / 2
        axes.annotate(
            f"round {number}",
            (middle, 0),
            (0, -20),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="top",
        )
    for phase in _ORDER:
        if phase in PHASES or clients.get(f"{phase}_s", pd.Series(dtype=float)).notna().any():
            axes.bar(0, 0, color=style.PHASE_COLOURS[phase], label=_LABELS.get(phase, phase))
    axes.plot([], [], color="black", linewidth=1.2, label="bound: links + compute")
    if any(map(style.bar_style, clients.to_dict("records"))):
        style.note_extrapolated(axes)
    figure.legend(loc="outside right upper", frameon=False)
    axes.set_ylabel("time in the round (s)")
    axes.set_xlabel("device", labelpad=18)
    return figure
