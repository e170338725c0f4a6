"""What a link is asked to be, whichever backend puts it in force."""

from __future__ import annotations

from dataclasses import dataclass

FRAME_BYTES = 1514
"""A full Ethernet frame as interface counters see it: 1500 bytes of IP and 14 of header."""
SEGMENT_BYTES = 1448
"""TCP payload of a full frame: 1500 - 20 (IPv4) - 20 (TCP) - 12 (timestamps)."""


class LinkError(RuntimeError):
    """A link cannot be put in force as asked; the message names the link and the reason."""


@dataclass(frozen=True)
class LinkSpec:
    """One direction of a link, measured at layer 2 as interface counters count it.

    `rate_bps` bit/s; `delay_s` one-way propagation; `jitter_s` standard deviation of a normal
    variation of that delay (order is kept); `loss` probability that a frame is lost on the air, after
    it has taken its time on the link; `queue_bytes` what may wait for the link before the tail drops
    (frames on the delay line do not count).
    """

    rate_bps: float
    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    queue_bytes: int = 64 * FRAME_BYTES

    def frame_time_s(self, frame_bytes: int = FRAME_BYTES) -> float:
        """Serialisation time of a frame: 8 * bytes / rate."""
        return 8 * frame_bytes / self.rate_bps

    @property
    def tcp_goodput_bps(self) -> float:
        """The most TCP payload per second a clean link carries: rate * 1448 / 1514."""
        return self.rate_bps * SEGMENT_BYTES / FRAME_BYTES


@dataclass(frozen=True)
class AccessLink:
    """The two directions between a device and its access node."""

    device: str
    up: LinkSpec
    down: LinkSpec
