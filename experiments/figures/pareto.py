"""Held-out loss against what it took, in time and in bytes: `fedcell bench compression`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from experiments.bench.compression_curves import Curve
from experiments.figures import style

_COLOURS = (
    style.BLUE,
    style.VERMILION,
    style.GREEN,
    style.PURPLE,
    style.ORANGE,
    style.SKY,
    "black",
)
_BAND = 0.36
"""Share of a panel's height below all ends, where the names stand upright."""
_APART = 11.0
"""Between two names, in 1/72 inch."""
_AXES: dict[str, Callable[[Curve, int], float]] = {
    "emulated time since the first round's start (s)": lambda curve, number: curve.times_s[number],
    "on the wire, up and down, of a device (MB)": lambda curve, number: curve.bytes_at(number) / 1e6,
}

Points = list[tuple[float, float]]


def draw(curves: Sequence[Curve], settings: Sequence[str]) -> Figure:
    """A line a setting, the mean of its seeds after each round, its name below its end; the grey steps are
    the least loss that any setting had reached by then. Settings without a valid trial are absent."""
    figure = style.new_figure(10.0, 4.6)
    panels = figure.subplots(1, 2, sharey=True)
    clean = {
        name: own
        for name in settings
        if (own := [curve for curve in curves if curve.setting == name and not curve.packet_loss])
    }
    for axes, (label, value) in zip(panels, _AXES.items(), strict=True):
        lines = {
            name: [
                (fmean(value(one, n) for one in own), fmean(one.losses[n] for one in own))
                for n in range(1, min(one.rounds for one in own) + 1)
            ]
            for name, own in clean.items()
        }
        axes.set_xlabel(label)
        _panel(axes, lines)
    panels[0].set_ylabel("held-out denoising loss")
    figure.draw_without_rendering()  # Only now are the panels as large as they will be.
    for axes in panels:
        separate(axes, _APART * figure.dpi / 72)
    return figure


def _panel(axes: Axes, lines: Mapping[str, Points]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="x", alpha=0.3)
    if not lines:
        return
    everything = [point for points in lines.values() for point in points]
    front = frontier(everything)
    axes.step(*zip(*front, strict=True), where="post", color=style.GREY, linewidth=4, alpha=0.4, zorder=0)
    losses = [loss for _, loss in everything]
    height = (max(losses) - min(losses)) or 1.0
    axes.set_ylim(min(losses) - height * _BAND / (1 - _BAND), max(losses) + 0.03 * height)
    for (name, points), colour in zip(lines.items(), itertools.cycle(_COLOURS), strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=2.5, linewidth=1, color=colour)
        axes.plot(*points[-1], marker="o", markersize=6, color=colour)
        axes.annotate(
            name,
            points[-1],
            xytext=(0.5, _BAND - 0.08),
            textcoords="axes fraction",
            rotation=90,
            ha="center",
            va="top",
            fontsize=7.5,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.5,
                "color": colour,
                "shrinkA": 1,
                "shrinkB": 3,
                "relpos": (0.5, 1),
            },
        )


def frontier(points: Points) -> Points:
    """Those that no other beats in both cost and loss, by rising cost."""
    front: Points = []
    for cost, loss in sorted(points):
        if not front or loss < front[-1][1]:
            front.append((cost, loss))
    return front


def separate(axes: Axes, apart: float) -> None:
    """Move the names to below their settings' ends, `apart` pixels from each other at least."""
    names = list(axes.texts)
    ends = [float(axes.transData.transform(name.xy)[0]) for name in names]  # type: ignore[attr-defined]
    panel = axes.get_window_extent()
    places = spread(ends, apart, panel.x0 + apart / 2, panel.x1 - apart / 2)
    for name, place in zip(names, places, strict=True):
        name.set_position(((place - panel.x0) / panel.width, name.get_position()[1]))


def spread(wanted: Sequence[float], apart: float, least: float, most: float) -> list[float]:
    """Places as near as can be to the `wanted` ones (least squares), in their order, `apart` from each other.

    Without room for all between `least` and `most` they are as far apart as there is.
    """
    if not wanted:
        return []
    apart = min(apart, (most - least) / max(1, len(wanted) - 1))
    order = np.argsort(wanted, kind="stable")
    # Less their distance the places may only rise: isotonic regression, by pooling adjacent violators.
    pools: list[tuple[float, int]] = []
    for number, index in enumerate(order):
        pool = (wanted[index] - number * apart, 1)
        while pools and pools[-1][0] > pool[0]:
            mean, count = pools.pop()
            pool = ((mean * count + pool[0] * pool[1]) / (count + pool[1]), count + pool[1])
        pools.append(pool)
    rising = np.repeat([mean for mean, _ in pools], [count for _, count in pools])
    placed = rising.clip(least, most - (len(wanted) - 1) * apart) + apart * np.arange(len(wanted))
    places = np.empty(len(wanted))
    places[order] = placed
    return places.tolist()
