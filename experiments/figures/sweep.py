"""What the trials of a sweep came to, by what was varied: small multiples of latency, bytes and loss.

From results.csv's rows. The key with most values runs along x, the next is the colour, every other
combination has a column of panels. Seeds are no axis of their own: their trials stand at one place. Invalid
trials are hollow and crossed, extrapolated ones ringed; a trial that failed has no point, and the figure says
how many did.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.figures import style

_COLOURS = (
    style.BLUE,
    style.ORANGE,
    style.GREEN,
    style.PURPLE,
    style.SKY,
    style.VERMILION,
    style.GREY,
)
_MARKERS = "osD^vPX"
_MOST_PANELS = 8
_LOGARITHMIC = 20.0
"""With more than that between least and most, a linear axis would hide the small ones."""
_SEED = "seed"
_RING: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgecolor": style.GREY,
}


@dataclass(frozen=True)
class Metric:
    """A column of results.csv, in units of its label; `bound` another that stands beside it as a tick."""

    column: str
    label: str
    scale: float = 1.0
    bound: str | None = None


_FIGURES = {
    "latency": [Metric("latency_mean_s", "mean round latency (s)", bound="bound_mean_s")],
    "bytes": [
        Metric("wire_up_bytes", "wire bytes up (MB)", 1e-6),
        Metric("wire_down_bytes", "wire bytes down (MB)", 1e-6),
    ],
    "loss": [Metric("final_loss", "final held-out loss")],
}


@dataclass(frozen=True)
class Layout:
    """Which varied key is drawn how; `facets` may be several, None: nothing is varied that way."""

    x: str | None
    colour: str | None
    facets: tuple[str, ...]


def layout(results: pd.DataFrame, labels: Sequence[str]) -> Layout:
    """The most values along x, then colours as far as they can be told apart."""
    counts = {label: results[label].nunique() for label in labels if label != _SEED}
    order = sorted(counts, key=lambda label: -counts[label])
    x = order.pop(0) if order else None
    colour = next((label for label in order if counts[label] <= len(_COLOURS)), None)
    return Layout(x, colour, tuple(label for label in labels if label in order and label != colour))


def draw(results: pd.DataFrame, labels: Sequence[str], metrics: Sequence[Metric]) -> Figure:
    """A row of panels a metric; the first eight columns where there are more."""
    plan = layout(results, labels)
    everything = list(dict.fromkeys(_facet(row, plan) for row in results.to_dict("records")))
    facets = everything[:_MOST_PANELS]
    places = list(dict.fromkeys(_text(value) for value in results[plan.x])) if plan.x else [""]
    colours = list(dict.fromkeys(_text(value) for value in results[plan.colour])) if plan.colour else [""]
    width = max(2.6, 0.36 * len(places) * max(1.0, 0.45 * len(colours)) + 0.9)
    figure = style.new_figure(max(4.6, width * len(facets) + 1.7), 2.5 * len(metrics) + 0.5)
    grid = figure.subplots(len(metrics), len(facets), squeeze=False, sharex=True, sharey="row")
    for line, metric in enumerate(metrics):
        for column, facet in enumerate(facets):
            rows = [row for row in results.to_dict("records") if _facet(row, plan) == facet]
            _panel(grid[line, column], pd.DataFrame(rows), metric, plan, places, colours)
            if line == 0 and facet:
                grid[line, column].set_title(facet, fontsize=8)
        values = results[metric.column].dropna() * metric.scale
        if len(values) and values.min() > 0 and values.max() > _LOGARITHMIC * values.min():
            grid[line, 0].set_yscale("log")
        elif len(values) and metric.column != "final_loss":
            grid[line, 0].set_ylim(bottom=0)  # A loss's zero is nowhere near.
        grid[line, 0].set_ylabel(metric.label, fontsize=8)
    for axes in grid[-1]:
        axes.set_xticks(
            range(len(places)), places, fontsize=7, rotation=30 if max(map(len, places)) > 5 else 0
        )
        axes.set_xlabel(plan.x or "")
    _legend(figure, results, metrics, plan, colours, hidden=len(everything) - len(facets))
    return figure


def _panel(
    axes: Axes,
    rows: pd.DataFrame,
    metric: Metric,
    plan: Layout,
    places: list[str],
    colours: list[str],
) -> None:
    """The trials of one facet; colours stand beside each other at their place.

    Where places are numbers a line joins the medians of valid trials, and has a gap where there is none.
    """
    for number, name in enumerate(colours):
        some = rows[rows[plan.colour].map(_text) == name] if plan.colour else rows
        some = some[some[metric.column].notna()]
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        beside = (number - (len(colours) - 1) / 2) * min(0.16, 0.6 / len(colours))
        at = some[plan.x].map(_text).map(places.index) + beside if plan.x else pd.Series(0.0, some.index)
        values, valid = some[metric.column] * metric.scale, some["valid"].astype(bool)
        ringed = _extrapolated(some)
        axes.plot(at[ringed], values[ringed], **_RING)
        if all(map(_is_number, places)):  # Between two codecs there is nothing a line could pass through.
            middle = values[valid].groupby(at[valid]).median().reindex(np.arange(len(places)) + beside)
            axes.plot(middle.index, middle, color=colour, linewidth=0.8, alpha=0.6)
        axes.plot(at[valid], values[valid], marker, color=colour, markersize=5, alpha=0.85)
        axes.plot(at[~valid], values[~valid], marker, color=colour, markersize=6, markerfacecolor="none")
        axes.plot(at[~valid], values[~valid], "x", color=style.VERMILION, markersize=6)
        if metric.bound:
            axes.plot(at, some[metric.bound] * metric.scale, "_", color="black", markersize=9)


def _legend(
    figure: Figure,
    results: pd.DataFrame,
    metrics: Sequence[Metric],
    plan: Layout,
    colours: list[str],
    hidden: int,
) -> None:
    entries = []
    if plan.colour:
        entries.append(Line2D([], [], linestyle="", label=plan.colour))
        for number, name in enumerate(colours):
            colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
            entries.append(Line2D([], [], linestyle="", label=name, color=colour, marker=marker))
    if any(metric.bound for metric in metrics):
        entries.append(Line2D([], [], linestyle="", marker="_", color="black", label="physical bound"))
    if (results["outcome"] == "invalid").any():
        entries.append(Line2D([], [], linestyle="", marker="x", color=style.VERMILION, label="INVALID"))
    if _extrapolated(results).any():
        entries.append(Line2D([], [], label=style.EXTRAPOLATED_NOTE, **_RING))
    missing = int(results["outcome"].isin(["failed", "not run"]).sum())
    notes = [f"{missing} of {len(results)} trials\nfailed or not run"] if missing else []
    notes += [f"{hidden} more panels\nnot drawn"] if hidden else []
    entries += [Line2D([], [], linestyle="", label=note) for note in notes]
    if entries:
        figure.legend(handles=entries, loc="outside right upper", frameon=False, fontsize=8)


def _facet(row: Mapping[Hashable, object], plan: Layout) -> str:
    return "\n".join(f"{key}={_text(row[key])}" for key in plan.facets)


def _extrapolated(rows: pd.DataFrame) -> pd.Series:
    """Whether only the first part of each of their transfers was emulated."""
    if "extrapolated" not in rows:
        return pd.Series(False, rows.index)
    return rows["extrapolated"].eq(True)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw_sweep(results: pd.DataFrame, labels: Sequence[str], folder: Path) -> list[Path]:
    """figures/latency.*, bytes.*, and where it was evaluated loss.*, in `folder`; none without a number."""
    (folder / "figures").mkdir(exist_ok=True)
    paths = []
    for name, metrics in _FIGURES.items():
        if results[metrics[0].column].notna().any():
            figure = draw(results, labels, metrics)
            # Each point says itself whether it can be trusted.
            paths += style.save(figure, folder / "figures" / name, valid=True)
    return paths
