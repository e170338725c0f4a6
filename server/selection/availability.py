"""When each device is there to be asked: a trace of intervals, in seconds since round 1 was due."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.selection.selector import SelectionError

Interval = tuple[float, float]
"""From (included) until (not included), in s; `inf`: to the end of the run."""

_COLUMNS = ["device", "from_s", "until_s"]


class Availability:
    """Who is there when. With a period, in s, the trace begins anew after each."""

    def __init__(self, intervals: Mapping[str, Sequence[Interval]], period_s: float | None = None) -> None:
        self._intervals = intervals
        self._period_s = period_s

    def available(self, time_s: float) -> set[str]:
        """The names of the devices that are there."""
        if self._period_s is not None:
            time_s %= self._period_s
        return {
            device
            for device, intervals in self._intervals.items()
            if any(begin <= time_s < end for begin, end in intervals)
        }

    def wait_s(self, time_s: float) -> float | None:
        """How long after `time_s` an interval next begins; None: never again."""
        begins = [begin for intervals in self._intervals.values() for begin, _ in intervals]
        if self._period_s is not None:
            time_s %= self._period_s
            begins += [begin + self._period_s for begin in begins]
        return min((begin - time_s for begin in begins if begin > time_s), default=None)


def read_availability(path: Path, devices: Sequence[str], period_s: float | None = None) -> Availability:
    """A CSV file with the columns device,from_s,until_s; a device's intervals ascend and do not overlap.

    Every device has at least one: who is always there has `0,inf`, or with a period `0,PERIOD`. Raises
    SelectionError naming file and line.
    """
    if period_s is not None and not 0 < period_s < math.inf:
        raise SelectionError(f"a period of {period_s:g} s: a trace repeats after more than 0 s")
    intervals: dict[str, list[Interval]] = {device: [] for device in devices}
    try:
        with path.open(newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) != _COLUMNS:
                raise SelectionError(f"{path}, line 1: the columns must be {','.join(_COLUMNS)}")
            for row in rows:
                if row:
                    _add(intervals, row, period_s, f"{path}, line {rows.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SelectionError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for device, its in intervals.items():
        if not its:
            always = f"{device},0,{period_s or math.inf:g}"
            raise SelectionError(f"{path}: no interval of {device}; write {always} if it is always there")
    return Availability(intervals, period_s)


def _add(intervals: dict[str, list[Interval]], row: list[str], period_s: float | None, where: str) -> None:
    if len(row) != len(_COLUMNS):
        raise SelectionError(f"{where}: {len(row)} values, not {len(_COLUMNS)}")
    device, begin, end = (value.strip() for value in row)
    if device not in intervals:
        raise SelectionError(f"{where}: there is no device '{device[:40]}' ({', '.join(intervals)})")
    try:
        begin_s, end_s = float(begin), float(end)
    except ValueError:
        raise SelectionError(f"{where}: from_s and until_s must be numbers") from None
    if not 0 <= begin_s < math.inf:
        raise SelectionError(f"{where}: from_s is {begin}, and must be 0 or more")
    if not begin_s < end_s:
        raise SelectionError(f"{where}: until_s {end} is not after from_s {begin}")
    if period_s is not None and end_s > period_s:
        raise SelectionError(f"{where}: until_s {end} is beyond the period of {period_s:g} s")
    if intervals[device] and begin_s < intervals[device][-1][1]:
        raise SelectionError(f"{where}: {device}'s interval begins before its last one has ended")
    intervals[device].append((begin_s, end_s))
