"""What a transfer costs at the least, and what interface counters say it has cost."""

from __future__ import annotations

from collections.abc import Iterable

from emulation.link import FRAME_BYTES, SEGMENT_BYTES, LinkSpec
from experiments.timeline import Event

WIRE = ("tx_bytes", "rx_bytes")
"""Both directions of an interface count."""


def bound_s(payload_bytes: float, link: LinkSpec) -> float:
    """The least time a payload takes: payload * 8 / rate * 1514/1448 + propagation, in seconds."""
    return link.least_time_s(payload_bytes * FRAME_BYTES / SEGMENT_BYTES) + link.delay_s


def counted(keys: Iterable[str], before: Event | None, after: Event | None) -> int | None:
    """How far the interface counters moved between two readings."""
    if before is None or after is None:
        return None
    return sum(after[key] - before[key] for key in keys)
