"""What a link is asked to be, whichever backend puts it in force."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

FRAME_BYTES = 1514
"""A full Ethernet frame as interface counters see it: 1500 bytes of IP and 14 of header."""
SEGMENT_BYTES = 1448
"""TCP payload of a full frame: 1500 - 20 (IPv4) - 20 (TCP) - 12 (timestamps)."""

Scheduler = Literal["round_robin", "proportional_fair", "fixed"]


class LinkError(RuntimeError):
    """A link cannot be put in force as asked; the message names the link and the reason."""


@dataclass(frozen=True)
class Outages:
    """Times without a link, on the clock and not by frames: exponential, of these means, in seconds.

    While it is down a link sends nothing and keeps its queue.
    """

    mean_up_s: float
    mean_down_s: float


@dataclass(frozen=True)
class Trace:
    """Mahimahi's packet-delivery trace: at each instant one full frame's bytes may leave, or are wasted.

    `deliveries_ms` whole milliseconds, ascending, repeats allowed; the last is the period, after which
    the trace starts again.
    """

    name: str
    deliveries_ms: tuple[int, ...]

    @property
    def mean_rate_bps(self) -> float:
        """Deliveries a period, each of FRAME_BYTES."""
        return len(self.deliveries_ms) * 8 * FRAME_BYTES / (self.deliveries_ms[-1] * 1e-3)

    def least_time_s(self, frames: int) -> float:
        """From the first to the last of that many deliveries in a row, where they come fastest.

        E.g. (10, 11, 12, 100): three frames take 2 ms from the first on, five take 100.
        """
        count, period = len(self.deliveries_ms), self.deliveries_ms[-1]
        periods, rest = divmod(frames - 1, count)
        twice = [*self.deliveries_ms, *(delivery + period for delivery in self.deliveries_ms)]
        return 1e-3 * (periods * period + min(twice[i + rest] - twice[i] for i in range(count)))


@dataclass(frozen=True)
class LinkSpec:
    """One direction of a link, measured at layer 2 as interface counters count it.

    `rate_bps` bit/s (with a trace: its mean); `delay_s` one-way propagation; `jitter_s` standard deviation
    of that delay, order is kept: normal, or `jitter_table`, quantiles in standard deviations at equal
    steps of probability. `loss` mean share of frames lost on the air, after they have taken their time
    on the link, and `loss_burst` the mean number lost in a row: at 1 losses are independent (Bernoulli),
    above it a Gilbert-Elliott chain of frames that loses all in its bad state and none in its good one.
    `duplicate` and `corrupt` shares of the frames that arrive (one bit is flipped, past the Ethernet header
    where the backend can choose). What may wait for the link before it drops: `queue_bytes`, and no more
    than `queue_frames` if that is given; frames on the delay line do not count. `aqm` "tail" drop, or
    "codel" (RFC 8289: 5 ms, 100 ms) before it.
    """

    rate_bps: float
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    queue_bytes: int = 64 * FRAME_BYTES
    loss_burst: float = 1.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    queue_frames: int | None = None
    aqm: Literal["tail", "codel"] = "tail"
    jitter_table: tuple[float, ...] | None = None
    outages: Outages | None = None
    trace: Trace | None = None

    def frame_time_s(self, frame_bytes: int = FRAME_BYTES) -> float:
        """Serialisation time of a frame: 8 * bytes / rate."""
        return 8 * frame_bytes / self.rate_bps

    def least_time_s(self, size_bytes: float) -> float:
        """How long so many bytes keep the link busy, at the best of times."""
        if self.trace is not None:
            return self.trace.least_time_s(max(1, math.ceil(size_bytes / FRAME_BYTES)))
        return 8 * size_bytes / self.rate_bps

    @property
    def tcp_goodput_bps(self) -> float:
        """The most TCP payload per second a clean link carries: rate * 1448 / 1514."""
        return self.rate_bps * SEGMENT_BYTES / FRAME_BYTES


@dataclass(frozen=True)
class LinkChange:
    """What changes of a direction while it runs; None stays as it is.

    The backlog survives: a new rate holds from the next bit on, also of a frame half sent; a new delay
    for frames that leave the queue after it; a link that is not `up` keeps its queue; one that goes over to
    another `air` takes along its queue and what is left of a frame half sent.
    """

    rate_bps: float | None = None
    delay_s: float | None = None
    loss: float | None = None
    up: bool | None = None
    air: Air | None = None


@dataclass(frozen=True)
class Air:
    """A radio cell whose airtime, in each direction, its links share while they have something to send.

    A frame takes 8 * bytes / rate of its own link's rate, so a device at the edge costs everyone.
    `round_robin` gives everyone with a backlog the same airtime, `proportional_fair` serves who has the
    best rate against what it got lately, `fixed` leaves everyone 1/n whether it is used or not.
    """

    name: str
    scheduler: Scheduler = "round_robin"


@dataclass(frozen=True)
class AccessLink:
    """The two directions between a node and the next one towards the server; equal `air` is shared.

    `roams` the airs that it may go over to while it runs, of the same scheduler as the `air` it begins in.
    """

    device: str
    up: LinkSpec
    down: LinkSpec
    air: Air | None = None
    roams: tuple[Air, ...] = ()
