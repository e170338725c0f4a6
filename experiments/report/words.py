"""Numbers as a report writes them: SI prefixes, three or four digits, a dash for what is not there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

NOTHING = "–"

_RATES = {"rate", "goodput"}
_TIMES = {"rtt", "delay", "jitter", "queue", "outage", "timing"}
_SHARES = {"loss", "duplicate", "corrupt", "reordering", "down", "gap", "gap_p50", "gap_p99"}
_FRAMES = {"burst"}

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def missing(value: Any) -> bool:
    """None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: Any, digits: int = 4) -> str:
    """`0.0123456` -> `0.01235`; whole numbers as they are, with thousands apart."""
    if missing(value):
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def prefixed(value: Any, unit: str) -> str:
    """`5e6`, `bit/s` -> `5 Mbit/s`."""
    if missing(value):
        return NOTHING
    scale, prefix = next((p for p in _PREFIXES if abs(value) >= p[0]), (1.0, ""))
    return f"{value / scale:.4g} {prefix}{unit}"


def rate(bps: Any) -> str:
    return prefixed(bps, "bit/s")


def size(count: Any) -> str:
    """Bytes: `290816` -> `290.8 kB`."""
    return prefixed(count, "B")


def seconds(value: Any, digits: int = 3) -> str:
    """Times of rounds and phases, all with as many decimals: `3.214`."""
    return NOTHING if missing(value) else f"{value:.{digits}f}"


def milliseconds(value: Any) -> str:
    return NOTHING if missing(value) else f"{value * 1e3:.4g} ms"


def percent(share: Any) -> str:
    return NOTHING if missing(share) else f"{share * 100:.3g} %"


def signed(share: float) -> str:
    """`-0.488` -> `−48.8 %`."""
    return f"{share * 100:+.1f} %".replace("-", "−")


def times(value: Any) -> str:
    """`1.0412` -> `1.041×`."""
    return NOTHING if missing(value) else f"{value:.3f}×"


def of_metric(metric: str, value: Any) -> str:
    """What calibration was to find or found, by its kind: `rate`, `5e6` -> `5 Mbit/s`."""
    if metric in _RATES:
        return rate(value)
    if metric in _TIMES:
        return milliseconds(value)
    if metric in _SHARES:
        return percent(value)
    if metric in _FRAMES and not missing(value):
        return f"{number(value)} frames"
    return number(value)


def span(values: Sequence[float], write: Any) -> str:
    """From the least to the most: `2 to 10 Mbit/s`, or the one value that all have."""
    known = sorted({value for value in values if not missing(value)})
    if not known:
        return NOTHING
    low, high = write(known[0]), write(known[-1])
    if low == high:
        return str(low)
    same = low.rpartition(" ")[2] == high.rpartition(" ")[2]
    return f"{low.rpartition(' ')[0] if same else low} to {high}"


def count(many: int, thing: str) -> str:
    """`1 device`, `4 devices`."""
    return f"{many:,} {thing}{'' if many == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """`dev0, dev1, dev2, dev5` -> `dev0 to dev2, dev5`: runs of three or more by their ends."""
    parts: list[list[str]] = []
    for name in names:
        if parts and _follows(parts[-1][-1], name):
            parts[-1].append(name)
        else:
            parts.append([name])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 2 else ", ".join(p) for p in parts)


def _follows(first: str, second: str) -> bool:
    stem, tail = first.rstrip("0123456789"), first[len(first.rstrip("0123456789")) :]
    return bool(tail) and second == f"{stem}{int(tail) + 1}"
