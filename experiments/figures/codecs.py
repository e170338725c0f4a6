"""Rate and distortion of codecs, the bound, and rounding with an entropy coder: `fedcell bench codecs`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from experiments.figures import style

if TYPE_CHECKING:
    from experiments.bench.codecs import Row

_SHOWN_BITS = (0.2, 9.0)
_LARGEST_GAP_BITS = 2.2
_FONT_SIZE = 6.0


def draw(rows: Sequence[Row]) -> Figure:
    """Left the error of Gaussian values by rate; right how many bits that is beyond the bound."""
    figure = style.new_figure(11.0, 5.2)
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    shown = [row for row in rows if row.nmse_gaussian and row.bits_per_parameter <= _SHOWN_BITS[1]]
    _bounds(left, lambda rate, error: error)
    left.set_yscale("log", base=10)
    left.set_ylabel("NMSE of Gaussian values")
    _bounds(right, lambda rate, error: rate + 0.5 * np.log2(error))
    right.set_ylim(-0.08, _LARGEST_GAP_BITS)
    right.set_ylabel("bits beyond the bound")
    near = [row for row in shown if row.gap_bits is not None and row.gap_bits < _LARGEST_GAP_BITS]
    _points(left, shown, [row.nmse_gaussian for row in shown])
    _points(right, near, [row.gap_bits or 0.0 for row in near])
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xlim(_SHOWN_BITS)
        axes.set_xticks([0.25, 0.5, 1, 2, 4, 8], ["0.25", "0.5", "1", "2", "4", "8"])
        axes.set_xlabel("bits a parameter, side information included")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    figure.draw_without_rendering()  # Labels are placed where the layout has put the axes.
    _name(left, shown, [row.nmse_gaussian for row in shown])
    _name(right, near, [row.gap_bits or 0.0 for row in near])
    return figure


def _bounds(axes: Axes, height: object) -> None:
    assert callable(height)
    rates = np.linspace(*_SHOWN_BITS, 400)
    axes.plot(rates, height(rates, 4.0**-rates), color="black", linewidth=1.2, label="$2^{-2R}$ (Shannon)")
    unbiased = rates[rates > 0.4]
    axes.plot(
        unbiased,
        height(unbiased, 1 / (4.0**unbiased - 1)),
        color="black",
        linestyle=":",
        linewidth=1.2,
        label="$1/(2^{2R}-1)$, unbiased",
    )
    rate, error = uniform_quantiser()
    axes.plot(
        rate,
        height(rate, error),
        color=style.BLUE,
        linestyle="--",
        linewidth=1,
        label="rounding, entropy coded",
    )


def uniform_quantiser() -> tuple[np.ndarray, np.ndarray]:
    """Rate and error of N(0, 1) rounded to multiples of a step, the means of what is rounded there sent on.

    The rate is the entropy: no coder is charged for. From the normal distribution's integrals.
    """
    rates, errors = [], []
    for step in np.geomspace(0.01, 6, 120):
        edges = np.arange(-math.ceil(9 / step), math.ceil(9 / step) + 1) * step - step / 2
        below = np.array([0.5 * math.erfc(-edge / math.sqrt(2)) for edge in edges])
        density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
        share = np.diff(below)
        share, lost = share[share > 1e-300], -np.diff(density)[share > 1e-300]
        rates.append(float(-(share * np.log2(share)).sum()))
        errors.append(1 - float((lost**2 / share).sum()))
    kept = [index for index, rate in enumerate(rates) if _SHOWN_BITS[0] <= rate <= 6.5]
    return np.array(rates)[kept], np.array(errors)[kept]


def _points(axes: Axes, rows: Sequence[Row], heights: Sequence[float]) -> None:
    for name, marker, colour, chosen in (
        ("biased", "o", style.VERMILION, lambda row: not row.unbiased),
        ("unbiased", "^", style.GREEN, lambda row: row.unbiased),
    ):
        some = [
            (row.bits_per_parameter, height) for row, height in zip(rows, heights, strict=True) if chosen(row)
        ]
        across, up = zip(*some, strict=True) if some else ((), ())
        axes.scatter(across, up, marker=marker, color=colour, s=16, label=name, zorder=3)


def _name(axes: Axes, rows: Sequence[Row], heights: Sequence[float]) -> None:
    """Each codec's name where it covers neither point nor curve nor name; with a line to its point if far."""
    rates = [row.bits_per_parameter for row in rows]
    places = [axes.transData.transform(place) for place in zip(rates, heights, strict=True)]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places]
    for line in axes.lines:  # Names keep off the curves too.
        taken += [
            Bbox.from_bounds(x - 1, y - 1, 2, 2) for x, y in axes.transData.transform(line.get_xydata())
        ]
    inside = axes.get_window_extent()
    renderer = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for row, (x, y) in sorted(zip(rows, places, strict=True), key=lambda pair: -pair[1][1]):
        text = axes.text(0, 0, row.codec, fontsize=_FONT_SIZE, transform=None)
        size = text.get_window_extent(renderer)
        left, bottom = _free(x, y, size.width, size.height, taken, inside)
        text.set_transform(axes.transData)
        text.set_position(tuple(axes.transData.inverted().transform((left, bottom + 1))))
        taken.append(Bbox.from_bounds(left, bottom, size.width, size.height))
        nearest = (min(max(x, left), left + size.width), min(max(y, bottom), bottom + size.height))
        if math.dist((x, y), nearest) > 14:
            ends = axes.transData.inverted().transform([(x, y), nearest])
            axes.plot(*ends.T, color=style.GREY, linewidth=0.5, zorder=1)


def _free(
    x: float, y: float, width: float, height: float, taken: Sequence[Bbox], inside: Bbox
) -> tuple[float, float]:
    """Where a box of this size is nearest to a point and covers nothing; lower left corner, in pixels."""
    for distance in range(6, 400, 6):
        for angle in np.arange(0, 2 * math.pi, math.pi / 12):
            across, up = math.cos(angle), math.sin(angle)
            left = x + distance * across - width * (1 - across) / 2
            bottom = y + distance * up - height * (1 - up) / 2
            box = Bbox.from_bounds(left, bottom, width, height)
            within = (
                inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
            )
            if within and not any(box.overlaps(other) for other in taken):
                return left, bottom
    return x, y
