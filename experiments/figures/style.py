"""How every figure looks: colour-blind safe, readable in print, PNG and PDF beside each other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): told apart by the colour-blind and in print.
PALETTE = {
    "SKY": "#56B4E9",
    "ORANGE": "#E69F00",
    "GREEN": "#009E73",
    "BLUE": "#0072B2",
    "VERMILION": "#D55E00",
    "PURPLE": "#CC79A7",
    "YELLOW": "#F0E442",
    "GREY": "#999999",
}
SKY, ORANGE, GREEN, BLUE, VERMILION, PURPLE, YELLOW, GREY = PALETTE.values()

PHASE_COLOURS = {
    "agree": GREY,
    "download": SKY,
    "gate": YELLOW,
    "compute": GREEN,
    "encode": PURPLE,
    "upload": BLUE,
    "wait": "#dddddd",
    "unmask": ORANGE,
    "aggregate": VERMILION,
}
"""What a device does in a round (experiments/timeline.py), in figures and reports alike."""

EXTRAPOLATED: dict[str, Any] = {"hatch": "////", "edgecolor": "white", "linewidth": 0}
"""Of bars whose numbers were not all measured: of each transfer the first part was."""
EXTRAPOLATED_NOTE = "extrapolated from\na steady part"

INVALID_NOTE = "INVALID RUN: see manifest.json"


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure in our style."""
    matplotlib.rcParams.update(
        {
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.alpha": 0.3,
            "axes.axisbelow": True,
            "pdf.fonttype": 42,
        }
    )
    return Figure(figsize=(width_in, height_in), layout="constrained")


def bar_style(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """Of bars that show a row of clients.csv or rounds.csv."""
    return EXTRAPOLATED if row.get("extrapolated", False) else {}


def note_extrapolated(axes: Axes) -> None:
    """An entry of the legend for such bars."""
    axes.bar(0, 0, color=GREY, label=EXTRAPOLATED_NOTE, **EXTRAPOLATED)


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def save(figure: Figure, path: Path, *, valid: bool) -> list[Path]:
    """Write `path` as .png and .pdf; a run that cannot be trusted says so on every figure."""
    if not valid:
        figure.text(0.5, 0.5, INVALID_NOTE, color=VERMILION, fontsize=20, alpha=0.5, ha="center", rotation=20)
    paths = [path.with_suffix(".png"), path.with_suffix(".pdf")]
    for target in paths:
        figure.savefig(target, dpi=160)
    return paths
