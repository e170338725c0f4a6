"""Who gets how much of an air that transfers share while they last: processor sharing.

A cell's scheduler gives every device with a backlog the same airtime (emulation/link.py; proportional fair
does where rates do not change, for the device that was served least is the next). A transfer that lasts
keeps a backlog, so with m of them each has 1/m of every second. Airtime therefore is the clock by which a
transfer goes at a rate of its own, whoever else is there; alone it is time itself.

Acknowledgements of what goes the other way take airtime, too. `acknowledgements` says how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from emulation.link import SEGMENT_BYTES

Span = tuple[float, float]
"""From when to when, in seconds."""

_ACK_BYTES = 66
"""Ethernet, IPv4 and TCP with timestamps: 14 + 20 + 32."""
_ACKED_BYTES = 2 * SEGMENT_BYTES
"""Every second full segment is acknowledged (RFC 5681, section 4.2)."""


def airtime(spans: Sequence[Span]) -> Callable[[float], float]:
    """Seconds -> the airtime that a transfer that lasted since the first began has had by then.

    `spans`: of all transfers that share the air. Only differences within a transfer's own span mean anything.
    """
    times = np.array(sorted({moment for span in spans for moment in span}))
    active = [sum(start <= moment < end for start, end in spans) for moment in times[:-1]]
    had = np.concatenate([[0.0], np.cumsum(np.diff(times) / np.maximum(1, active))])

    def clock(moment: float) -> float:
        return float(np.interp(moment, times, had))

    return clock


def acknowledgements(payload_bytes: float, span: Span, rate_bps: float) -> float:
    """Share of the opposite air that the acknowledgements of a transfer take while it lasts.

    `rate_bps`: what its device sends at there.
    """
    start, end = span
    return 8 * payload_bytes / (end - start) * _ACK_BYTES / _ACKED_BYTES / rate_bps


def overlap_s(one: Span, other: Span) -> float:
    """For how long both last."""
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
