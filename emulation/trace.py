"""Files that describe a link's behaviour: Mahimahi's packet-delivery traces, iproute2's distributions."""

from __future__ import annotations

from pathlib import Path

from emulation.link import Trace

_DISTRIBUTION_UNIT = 8192
"""iproute2 writes quantiles in units of 1/8192 of a standard deviation (NETEM_DIST_SCALE)."""


class TraceError(ValueError):
    """A file that is not what it should be; the message names file and line."""


def read_mahimahi(path: Path) -> Trace:
    """A trace file: one whole millisecond a line, ascending, the last above 0. Raises TraceError."""
    deliveries: list[int] = []
    for number, line in enumerate(_lines(path), 1):
        text = line.strip()
        if not text:
            continue
        if not text.isdecimal():
            raise TraceError(f"{path}, line {number}: '{text[:40]}' is not a whole number of milliseconds")
        if deliveries and int(text) < deliveries[-1]:
            raise TraceError(f"{path}, line {number}: {text} ms comes after {deliveries[-1]} ms")
        deliveries.append(int(text))
    if not deliveries or deliveries[-1] == 0:
        raise TraceError(f"{path}: a trace needs a delivery after 0 ms")
    return Trace(path.name, tuple(deliveries))


def write_mahimahi(path: Path, trace: Trace) -> None:
    """As `read_mahimahi` and mm-link read it."""
    path.write_text("".join(f"{delivery}\n" for delivery in trace.deliveries_ms))


def read_distribution(path: Path) -> tuple[float, ...]:
    """A table as iproute2's maketable makes it: quantiles in standard deviations. Raises TraceError."""
    values: list[float] = []
    for number, line in enumerate(_lines(path), 1):
        for word in line.partition("#")[0].split():
            try:
                values.append(int(word) / _DISTRIBUTION_UNIT)
            except ValueError:
                raise TraceError(f"{path}, line {number}: '{word[:40]}' is not a whole number") from None
    if len(values) < 2:
        raise TraceError(f"{path}: a distribution needs two values at least")
    return tuple(values)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
