"""Where a transfer's time went, from the frames that were captured at both of its ends.

A direction of a link is busy for 8 * bytes / rate with every frame; all other time between the first and
the last is idle, and who kept it idle can be seen at the sender: a window, TCP's or HTTP/2's, which lets
nothing out until something comes back, or whoever had nothing to send.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulation.link import LinkSpec

_PCAP_HEADER_BYTES = 24
_RECORD = struct.Struct("=IIII")
_IPV4, _TCP, _ETHERNET_BYTES = 0x0800, 6, 14
_SEQUENCES = 1 << 32
_PROMPT_S = 1e-3
"""A segment that leaves so soon after an acknowledgement came, with others still out, had waited for it."""


Flow = tuple[int, int]
"""Ports of a TCP connection: the sender's, the receiver's."""


@dataclass(frozen=True)
class Frame:
    """One captured frame: when (s, CLOCK_MONOTONIC), its sender's MAC address, and its bytes on the link.

    Of a TCP segment `payload` bytes from `sequence` on, in `flow`; `acknowledges` the byte expected next.
    """

    t: float
    source: str
    length: int
    flow: Flow = (0, 0)
    sequence: int = 0
    payload: int = 0
    acknowledges: int | None = None


@dataclass(frozen=True)
class Transfer:
    """The seconds of a transfer, which add up to its end minus its start.

    `before` the link began; `payload` the bound: payload * 8 / rate * 1514/1448 + propagation; `framing` what
    else went over the link with it; `window` idle until an acknowledgement came; `pauses` idle for any other
    reason, above all because nothing was handed to TCP; `after` the last frame had come.
    """

    before: float
    payload: float
    framing: float
    window: float
    pauses: float
    after: float
    retransmitted: int


def read(path: Path, realtime_minus_monotonic_s: float) -> Iterator[Frame]:
    """The frames of a pcap file of ours (emulation.capture) in order; a cut last record is left out."""
    data = path.read_bytes()
    at = _PCAP_HEADER_BYTES
    while at + _RECORD.size <= len(data):
        seconds, nanoseconds, captured, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if at + captured > len(data):
            return
        t = seconds + nanoseconds * 1e-9 - realtime_minus_monotonic_s
        yield _parse(t, length, data[at : at + captured])
        at += captured


def _parse(t: float, length: int, head: bytes) -> Frame:
    source = head[6:12].hex(":")
    ip = _ETHERNET_BYTES
    is_tcp = len(head) > ip + 20 and int.from_bytes(head[12:14]) == _IPV4 and head[ip + 9] == _TCP
    tcp = ip + 4 * (head[ip] & 15) if is_tcp else len(head)
    if len(head) < tcp + 20:
        return Frame(t, source, length)
    total = int.from_bytes(head[ip + 2 : ip + 4])
    own, other, sequence, acknowledges = struct.unpack_from("!HHII", head, tcp)
    payload = ip + total - tcp - 4 * (head[tcp + 12] >> 4)
    is_ack = head[tcp + 13] & 0x10
    return Frame(t, source, length, (own, other), sequence, payload, acknowledges if is_ack else None)


class Way:
    """One direction of a link: the frames of `source` as they left it and as they came to the other end.

    Frames must be in order of time, as `read` gives them.
    """

    def __init__(
        self, source: str, at_sender: Sequence[Frame], at_receiver: Sequence[Frame], link: LinkSpec
    ) -> None:
        self._link = link
        self._came = [frame for frame in at_receiver if frame.source == source]
        self._times = [frame.t for frame in self._came]
        self._waited: set[tuple[Flow, int]] = set()
        """Segments, by flow and first byte, that went as soon as an acknowledgement had come."""
        self._again: list[float] = []
        """When a segment was sent that had been sent before."""
        self._follow(at_sender, source)

    def _follow(self, frames: Sequence[Frame], source: str) -> None:
        """Each connection as its sender sees it: what is out, what is acknowledged, and when that was."""
        highest: dict[Flow, int] = {}
        acknowledged: dict[Flow, tuple[int, float]] = {}
        for frame in frames:
            if frame.source != source:
                if frame.acknowledges is not None:
                    acknowledged[frame.flow[::-1]] = (frame.acknowledges, frame.t)
                continue
            if not frame.payload:
                continue
            top = highest.setdefault(frame.flow, frame.sequence)
            if (frame.sequence - top) % _SEQUENCES >= _SEQUENCES // 2:
                self._again.append(frame.t)
                continue
            upto, when = acknowledged.get(frame.flow, (top, -1.0))
            if top != upto and frame.t - when <= _PROMPT_S:
                self._waited.add((frame.flow, frame.sequence))
            highest[frame.flow] = (frame.sequence + frame.payload) % _SEQUENCES

    def transfer(self, start_s: float, end_s: float, bound_s: float) -> Transfer | None:
        """What became of the time from `start_s` to `end_s` (CLOCK_MONOTONIC); None: no frame came in it."""
        # What comes sooner than a propagation after the start was sent before it, and is another's.
        first = bisect_left(self._times, start_s + self._link.delay_s)
        last = bisect_right(self._times, end_s)
        frames = self._came[first:last]
        while frames and not frames[0].payload:  # Acknowledgements of what came before.
            frames = frames[1:]
        if not frames:
            return None
        busy = [8 * frame.length / self._link.rate_bps for frame in frames]
        window = pauses = 0.0
        for earlier, frame, own in zip(frames, frames[1:], busy[1:], strict=False):
            idle = frame.t - earlier.t - own
            if (frame.flow, frame.sequence) in self._waited:
                window += idle
            else:
                pauses += idle
        return Transfer(
            before=frames[0].t - busy[0] - self._link.delay_s - start_s,
            payload=bound_s,
            framing=sum(busy) + self._link.delay_s - bound_s,
            window=window,
            pauses=pauses,
            after=end_s - frames[-1].t,
            retransmitted=sum(start_s <= t <= end_s for t in self._again),
        )
