"""What TCP is asked to be on a host: per namespace, because a new one inherits the machine's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_FIRST_BUFFER = 131072
"""What a socket's buffers start with, as in the kernel."""
_SEGMENT_BYTES = 1460
_ECN = {"never": "0", "request": "1", "accept": "2"}


@dataclass(frozen=True)
class Tcp:
    """TCP's settings on one host; the defaults make every connection of a run start alike.

    A sender's settings govern what it sends: a device's its uplink, the server's every downlink.
    `slow_start_after_idle` False: a connection keeps its window while the devices compute.
    `no_metrics_save` True: nothing is remembered from one connection to the next. `buffer_bytes` the most
    a socket's send and receive buffers grow to; None: four times what the longest way can hold. `ecn`
    (tcp(7), tcp_ecn): asked for with every connection, or granted to who asks. `initial_window` in
    segments, of both roles, with buffers that hold it from the start, and `rto_min_s` the least
    retransmission timeout; None: the kernel's 10 and 0.2 s.
    """

    congestion_control: str = "cubic"
    slow_start_after_idle: bool = False
    no_metrics_save: bool = True
    buffer_bytes: int | None = None
    ecn: Literal["never", "accept", "request"] = "accept"
    sack: bool = True
    initial_window: int | None = None
    rto_min_s: float | None = None

    def sysctls(self, largest_buffer: int) -> dict[str, str]:
        """Settings of the namespace; `largest_buffer` holds unless there is a `buffer_bytes`.

        Timestamps and window scaling are pinned, not offered: SEGMENT_BYTES counts on the first, and
        without the second no connection fills a long link.
        """
        largest = largest_buffer if self.buffer_bytes is None else self.buffer_bytes
        first = _FIRST_BUFFER
        if self.initial_window is not None:
            # A receiver advertises at most half of its buffer (Linux, tcp_rmem in ip-sysctl.rst).
            first = max(first, 2 * self.initial_window * _SEGMENT_BYTES)
        buffers = f"4096 {min(first, largest)} {largest}"
        return {
            "net.ipv4.tcp_no_metrics_save": str(int(self.no_metrics_save)),
            "net.ipv4.tcp_slow_start_after_idle": str(int(self.slow_start_after_idle)),
            "net.ipv4.tcp_ecn": _ECN[self.ecn],
            "net.ipv4.tcp_sack": str(int(self.sack)),
            "net.ipv4.tcp_timestamps": "1",
            "net.ipv4.tcp_window_scaling": "1",
            "net.ipv4.tcp_rmem": buffers,
            "net.ipv4.tcp_wmem": buffers,
        }

    def route(self) -> dict[str, str]:
        """Settings that only a route can carry (ip-route(8))."""
        settings: dict[str, str] = {}
        if self.initial_window is not None:
            settings |= {key: str(self.initial_window) for key in ("initcwnd", "initrwnd")}
        if self.rto_min_s is not None:
            milliseconds = round(self.rto_min_s * 1e3)  # Written as ip-route(8) shows it, to be read back.
            short = milliseconds < 1000
            settings["rto_min"] = f"{milliseconds}ms" if short else f"{milliseconds / 1e3:g}s"
        return settings
