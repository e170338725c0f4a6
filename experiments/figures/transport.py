"""A round's latency against its bound, and what lies beyond: `fedcell bench transport`."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.bench.transport_rows import GROUPS, Row
from experiments.figures import style

_COLOURS = dict(
    zip(
        GROUPS,
        (style.ORANGE, style.YELLOW, style.SKY, style.VERMILION, style.BLUE, style.GREEN),
        strict=True,
    )
)


def draw(rows: Sequence[Row]) -> Figure:
    """Left what our rounds take beyond their bounds, by cause; right every system where there is another."""
    ours = [row for row in rows if row.system == "fedcell"]
    others = {(row.rate_bps, row.one_way_delay_s) for row in rows if row.system != "fedcell"}
    together = [
        row for row in rows if (row.rate_bps, row.one_way_delay_s) in others and row.initial_window is None
    ]
    figure = style.new_figure(max(5.0, 0.34 * len(ours) + 1.8) + (4.4 if together else 0), 4.2)
    widths = [max(1.0, 0.34 * len(ours)), *([3.6] if together else [])]
    axes = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    _beyond(axes[0], ours)
    if together:
        _systems(axes[1], together)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return figure


def _beyond(axes: Axes, rows: Sequence[Row]) -> None:
    """Bars of per cent beyond the bound, stacked by cause; a group of rounds for each link and setting."""
    places: list[float] = []
    groups: dict[str, list[float]] = {}
    for row in rows:
        window = "" if row.initial_window is None else f"\nwindow {row.initial_window}"
        name = row.case.link.replace(", ", "\n") + window
        place = (places[-1] + 1 if name in groups else places[-1] + 1.7) if places else 0.0
        places.append(place)
        groups.setdefault(name, []).append(place)
        height = 0.0
        for cause, seconds in row.grouped().items():
            share = max(0.0, 100 * seconds / row.bound_s)
            axes.bar(place, share, bottom=height, color=_COLOURS[cause], width=0.85)
            height += share
        axes.plot(place, 100 * (row.ratio - 1), "_", color="black", markersize=9)
        _mark_invalid(axes, row, place, height)
    axes.set_xticks([sum(places) / len(places) for places in groups.values()], list(groups), fontsize=7)
    axes.set_xlabel("link; its rounds from left to right", fontsize=8)
    axes.set_ylabel("fedcell: beyond the bound (%)")
    for cause, colour in _COLOURS.items():
        axes.bar(0, 0, color=colour, label=cause)
    axes.plot([], [], "_", color="black", label="measured")


def _systems(axes: Axes, rows: Sequence[Row]) -> None:
    """Bars of latency, a group a system, with its bound; logarithmic, for some take ten times as long."""
    names = list(dict.fromkeys((row.system, row.tensors) for row in rows))
    for index, name in enumerate(names):
        some = [row for row in rows if (row.system, row.tensors) == name]
        for number, row in enumerate(some):
            place = index + (number - (len(some) - 1) / 2) * 0.8 / len(some)
            axes.bar(place, row.latency_s, width=0.7 / len(some), color=style.GREY)
            axes.text(place, row.latency_s, f"{row.latency_s:.1f}", ha="center", va="bottom", fontsize=6)
            _mark_invalid(axes, row, place, some[0].bound_s / 2)
        axes.plot([index - 0.42, index + 0.42], [some[0].bound_s] * 2, color="black", linewidth=1.2)
    axes.set_yscale("log")
    axes.set_xticks(
        range(len(names)),
        [f"{system}\n{tensors} tensor{'s' * (tensors > 1)}" for system, tensors in names],
        fontsize=7,
        rotation=30,
    )
    axes.set_ylabel(f"latency of rounds at {rows[0].case.link} (s)")


def _mark_invalid(axes: Axes, row: Row, place: float, height: float) -> None:
    if not row.valid:
        axes.text(place, height, " invalid", rotation=90, ha="center", va="bottom", fontsize=7)
