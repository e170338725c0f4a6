"""What the paper's figures have in common: a look for each scheme, and for what is extrapolated or invalid.

Extrapolated points are open, extrapolated bars hatched; an invalid one is open and crossed, and takes part in
no line. What failed has no mark at all: a note under the figure says what.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.figures import style
from experiments.paper.schemes import SCHEMES

Tables = Mapping[str, pd.DataFrame]
"""A table of experiments/paper/tables.py by its name, and `trials`."""

_LOOKS = (
    (style.VERMILION, "s"),
    (style.SKY, "o"),
    (style.BLUE, "^"),
    (style.PURPLE, "D"),
    (style.GREEN, "v"),
    (style.ORANGE, "P"),
    ("#555555", "h"),
)
LOOKS = dict(zip(SCHEMES, _LOOKS, strict=True))
"""Scheme -> colour and marker."""
_NOTE_LINES = 3


def title(scheme: str) -> str:
    return SCHEMES[scheme].title


def curve(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    look: tuple[str, str],
    *,
    x_unit: float = 1.0,
    y_unit: float = 1.0,
    line: str = "-",
) -> None:
    """Points with their intervals by rising x, the valid ones joined; `rows` are those of over_seeds."""
    rows = rows[rows[y].notna()].sort_values(x)
    good = rows[rows["valid"]]
    axes.plot(good[x] / x_unit, good[y] / y_unit, line, color=look[0], linewidth=1.2)
    for row in rows.to_dict("records"):
        point(axes, row[x] / x_unit, row[y] / y_unit, look, row, half=row[f"{y}_half"] / y_unit)


def point(
    axes: Axes, x: float, y: float, look: tuple[str, str], row: Mapping[Any, Any], half: float = float("nan")
) -> None:
    """One point of a row of over_seeds."""
    colour, marker = look
    full = row["valid"] and not row["extrapolated"]
    face = colour if full else "white"
    if half == half:
        axes.errorbar(x, y, half, color=colour, linewidth=0.8, capsize=2)
    axes.plot(x, y, marker, color=colour, markerfacecolor=face, markersize=5, zorder=3)
    if not row["valid"]:
        axes.plot(x, y, "x", color="black", markersize=8, zorder=4)


def bar_look(row: Mapping[Any, Any], colour: str) -> dict[str, Any]:
    """Of a bar of a row of over_seeds; an invalid one has no face."""
    look: dict[str, Any] = {"color": colour if row["valid"] else "white", "edgecolor": colour}
    if row["extrapolated"]:
        look |= {"hatch": "////", "edgecolor": "white" if row["valid"] else colour, "linewidth": 0}
    return look


def scheme_handles(schemes: Iterable[str]) -> list[Artist]:
    return [
        Line2D([], [], color=LOOKS[s][0], marker=LOOKS[s][1], markersize=5, linewidth=1.2, label=title(s))
        for s in schemes
    ]


def state_handles(*tables: pd.DataFrame, bars: bool = False) -> list[Artist]:
    """What of extrapolated and invalid there is to explain."""
    handles: list[Artist] = []
    if any(table["extrapolated"].any() for table in tables):
        handles.append(
            Patch(facecolor="#aaaaaa", edgecolor="white", hatch="////", label="extrapolated")
            if bars
            else _sign("o", "grey", "extrapolated")
        )
    if any((~table["valid"].astype(bool)).any() for table in tables):
        handles.append(_sign("x", "black", "INVALID"))
    return handles


def _sign(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor="white", label=label)


def legend(figure: Figure, handles: Iterable[Artist]) -> None:
    figure.legend(handles=list(handles), loc="outside right upper", frameon=False, fontsize=8)


def log_axis(axes: Axes, which: str, ticks: tuple[float, ...] = (1.0,)) -> None:
    """Logarithmic, with plain numbers at `ticks` of each decade."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_tick))


def _tick(value: float, _: int) -> str:
    """Short enough for ticks of neighbouring decades to stand beside each other."""
    if value < 1e4:
        return f"{value:,g}"
    return f"{value / 1e3:g}k" if value < 1e6 else f"{value / 1e6:g}M"


def note(figure: Figure, trials: pd.DataFrame, *parts: str) -> None:
    """Under the figure: which trials of these parts are not valid, and how many were not to be had at all."""
    mine = trials[trials["part"].isin(parts)]
    bad = mine[~mine["valid"].astype(bool)]
    if bad.empty:
        return
    width = int(22 * figure.get_figwidth())
    lines = [
        textwrap.shorten(
            f"{row['outcome'].upper()}: {row['scheme']}, {row['point']}, seed {row['seed']}: {row['reason']}",
            width,
            placeholder=" …",
        )
        for row in bad.to_dict("records")
    ]
    if len(lines) > _NOTE_LINES:
        lines = [*lines[:_NOTE_LINES], f"and {len(lines) - _NOTE_LINES} more of {len(mine)} trials"]
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=6, color=style.VERMILION)


def nothing(axes: Axes, why: str = "nothing measured") -> None:
    """In a panel that would be empty, so that it is seen to be."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=style.VERMILION)
