"""One transfer of which the first part took place: its pace, and what of it grows with its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from emulation.link import FRAME_BYTES, LinkSpec
from experiments.extrapolation.airtime import Span
from experiments.extrapolation.steady import Mark, Pace, on_time, pace
from experiments.timeline import ClientRound, Event

_ENDS = {"down": ("download_start", "download_end"), "up": ("upload_start", "upload_received")}
_ARRIVALS = {"down": "download_progress", "up": "upload_arriving"}
_CALIBRATED = 0.99
"""A link's rate was measured to be right within 1 %, so it may be that much faster."""
_COUNTERS = ("tx_bytes", "rx_bytes")


@dataclass
class Transfer:
    """Of a device that finished its round. `way` is `down` or `up`; times in seconds."""

    client: ClientRound
    way: str
    whole_bytes: int
    """Payload, as is `part_bytes`."""
    pace: Pace | None = None
    """Against airtime; None before `measure`, and where it could not be told."""
    took_s: float = 0.0
    """Airtime of the part."""
    needs_s: float = 0.0
    """Airtime of the whole, if it goes on like this."""

    @property
    def part_bytes(self) -> int:
        return int(self.client.value(_ENDS[self.way][1], "payload_bytes"))

    @property
    def growth(self) -> float:
        """How much longer the whole payload is."""
        return self.whole_bytes / self.part_bytes

    @property
    def span(self) -> Span:
        """From when to when the part lasted."""
        start, end = _ENDS[self.way]
        return self.client.marks[start]["t"], self.client.marks[end]["t"]

    @property
    def arrivals(self) -> list[Mark]:
        """Times, and payload bytes at the receiver."""
        return [(event["t"], event["done"]) for event in self.client.progress.get(_ARRIVALS[self.way], [])]

    def measure(self, clock: Callable[[float], float], link: LinkSpec) -> str | None:
        """Find pace and need by the airtime `clock`; what keeps the pace from being steady, or None."""
        start, end = self.span
        self.took_s = clock(end) - clock(start)
        marks = [(clock(t), done) for t, done in self.arrivals]
        self.pace = pace(on_time(marks, _CALIBRATED * 8 / link.tcp_goodput_bps))
        s_per_byte = self.pace.s_per_byte if self.pace else self.took_s / self.part_bytes
        self.needs_s = self.took_s + (self.whole_bytes - self.part_bytes) * s_per_byte
        if self.pace is None:
            return f"its {len(self.arrivals)} marks of progress are too few to tell"
        return self.pace.unsteady

    def more_on_wire(self) -> tuple[int, int]:
        """Bytes on the wire that the rest would have added, and segments sent again.

        The rest has the part's headers and acknowledgements; but of segments sent again, which an
        overflow in slow start makes many of, it has what the part's second half had. (What is lost on the way
        down was never counted at the device, so nothing is to be set apart there.)
        """
        marks, rest = self.client.marks, self.whole_bytes - self.part_bytes
        if self.way == "down":
            before, after = self.client.before, marks.get("download_end")
        else:
            before, after = marks.get("encode_end"), marks.get("upload_end")
        if before is None or after is None:
            return 0, 0
        wire = sum(_moved(key, before, after) for key in _COUNTERS)
        if self.way == "down":
            return round(wire * rest / self.part_bytes), 0
        again = _moved("retransmitted_segments", before, after)
        more_again = self._sent_again_by_byte() * rest
        plain = (wire - again * FRAME_BYTES) * rest / self.part_bytes
        return round(plain + more_again * FRAME_BYTES), round(more_again)

    def _sent_again_by_byte(self) -> float:
        """Segments sent again for each payload byte that came, in the second half; 0 where none is known."""
        counted = self.client.progress.get("upload_progress", [])
        if not counted or not self.arrivals:
            return 0.0
        times, done = (np.array(column) for column in zip(*self.arrivals, strict=True))
        read = [event["t"] for event in counted], [event["retransmitted_segments"] for event in counted]
        begin = float(np.interp(self.part_bytes / 2, done, times))
        end = min(times[-1], read[0][-1])
        came = np.interp(end, times, done) - np.interp(begin, times, done)
        return float((np.interp(end, *read) - np.interp(begin, *read)) / came) if came > 0 else 0.0

    def row(self, whole: Span) -> dict[str, Any]:
        """Of extrapolation.csv; `whole` from when to when all of it lasts."""
        start, end = self.span
        return {
            "round": self.client.round,
            "client": self.client.client,
            "direction": self.way,
            "emulated_bytes": self.part_bytes,
            "emulated_s": end - start,
            "payload_bytes": self.whole_bytes,
            "payload_s": whole[1] - whole[0],
            "steady_rate_bps": 8 / self.pace.s_per_byte if self.pace else None,
            "drift": self.pace.drift if self.pace else None,
            "interval": self.pace.interval if self.pace else None,
            "steady": self.pace is not None and self.pace.unsteady is None,
        }


def _moved(counter: str, before: Event, after: Event) -> int:
    return int(after[counter] - before[counter])
