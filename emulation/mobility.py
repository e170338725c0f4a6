"""Where devices are: fixed, random waypoint, or a file of positions. All are straight lines between knots.

Random waypoint (Johnson and Maltz, 1996): wait, choose a point of the map, go there at a constant speed.
It starts uniform on the map and its long-run distribution is not: devices gather in the middle (Bettstetter
et al., 2003), and slow trips last longer, so the mean speed falls at first (Yoon et al., Random waypoint
considered harmful, 2003); without a least speed above 0 it would fall to 0. Short runs see the start.
"""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from emulation.link_budget import ChannelError, Floats

Point = tuple[float, float]
Knot = tuple[float, float, float]
"""(time in s, x in m, y in m)."""

_COLUMNS = ["time_s", "device", "x_m", "y_m"]


class Way:
    """One device's movement: straight and even between knots, at rest before the first and after the last."""

    def __init__(self, knots: Iterable[Knot]) -> None:
        self._more = iter(knots)
        self._times: list[float] = []
        self._points: list[Point] = []
        self._pull()

    def at(self, time_s: float) -> Point:
        while self._times[-1] <= time_s and self._pull():
            pass
        after = bisect_right(self._times, time_s)
        if after in (0, len(self._times)):
            return self._points[max(after - 1, 0)]
        begin, end = self._times[after - 1 : after + 1]
        (x, y), (x_end, y_end) = self._points[after - 1 : after + 1]
        share = (time_s - begin) / (end - begin)
        return x + share * (x_end - x), y + share * (y_end - y)

    def _pull(self) -> bool:
        knot = next(self._more, None)
        if knot is not None:
            self._times.append(knot[0])
            self._points.append(knot[1:])
        return knot is not None


def positions(ways: Sequence[Way], time_s: float) -> Floats:
    """Where everyone is, in m, shape (devices, 2)."""
    return np.array([way.at(time_s) for way in ways])


def random_point(area_m: Point, rng: np.random.Generator) -> Point:
    """Uniform on the map, which reaches from (0, 0) to `area_m`."""
    x, y = rng.uniform((0, 0), area_m)
    return float(x), float(y)


def random_waypoint(
    start: Point, area_m: Point, speeds_m_s: tuple[float, float], pause_s: float, rng: np.random.Generator
) -> Iterator[Knot]:
    """Endless knots: speeds uniform between the two, `pause_s` at every point, the start too."""
    if not 0 < speeds_m_s[0] <= speeds_m_s[1]:
        raise ChannelError("random waypoint needs a least speed above 0 and a greatest not below it")
    time_s, (x, y) = 0.0, start
    while True:
        yield time_s, x, y
        if pause_s:
            time_s += pause_s
            yield time_s, x, y
        goal = random_point(area_m, rng)
        time_s += float(np.hypot(goal[0] - x, goal[1] - y)) / float(rng.uniform(*speeds_m_s))
        x, y = goal


def read_positions(path: Path, devices: Sequence[str], area_m: Point) -> list[Way]:
    """A CSV file with the columns time_s,device,x_m,y_m; every device's times ascend.

    Raises ChannelError naming file and line; for a position outside the map, too.
    """
    knots: dict[str, list[Knot]] = {device: [] for device in devices}
    try:
        with path.open(newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) != _COLUMNS:
                raise ChannelError(f"{path}, line 1: the columns must be {','.join(_COLUMNS)}")
            for row in rows:
                if row:
                    _add(knots, row, area_m, f"{path}, line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ChannelError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for device, its in knots.items():
        if not its:
            raise ChannelError(f"{path}: no position of {device}")
    return [Way(its) for its in knots.values()]


def _add(knots: dict[str, list[Knot]], row: list[str], area_m: Point, where: str) -> None:
    if len(row) != len(_COLUMNS):
        raise ChannelError(f"{where}: {len(row)} values, not {len(_COLUMNS)}")
    time, device, *point = (value.strip() for value in row)
    if device not in knots:
        raise ChannelError(f"{where}: there is no device '{device[:40]}' ({', '.join(knots)})")
    try:
        time_s, x, y = float(time), float(point[0]), float(point[1])
    except ValueError:
        raise ChannelError(f"{where}: time and position must be numbers") from None
    if not (0 <= x <= area_m[0] and 0 <= y <= area_m[1]):
        raise ChannelError(f"{where}: ({x:g}, {y:g}) is outside the map of {area_m[0]:g} x {area_m[1]:g} m")
    if not np.isfinite(time_s) or (knots[device] and time_s <= knots[device][-1][0]):
        raise ChannelError(f"{where}: {device}'s time {time} s does not come after the one before")
    knots[device].append((time_s, x, y))
