"""One device's pcap file as streams of bytes, and whether all that crossed its interface is there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dpkt

from experiments.leaks.streams import Joined, Stream

_ETHERNET_BYTES = 14
_FIN, _SYN, _ACK = dpkt.tcp.TH_FIN, dpkt.tcp.TH_SYN, dpkt.tcp.TH_ACK

Way = tuple[bytes, int, bytes, int]
"""One direction of a TCP connection: address and port of who sends, and of who gets it."""


class CaptureError(ValueError):
    """A file that is no capture; the message names it."""


@dataclass(frozen=True)
class Connection:
    """A TCP connection of the device: what it sent and what it got."""

    up: Joined
    down: Joined


@dataclass
class Crossed:
    """What crossed a device's interface.

    `up` and `down` are the payloads of everything but TCP, one packet's after the other's. `problems` say
    what of the traffic is not here: with any of them nothing can be said of what was not found.
    """

    connections: list[Connection] = field(default_factory=list)
    up: bytes = b""
    down: bytes = b""
    frames: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def up_bytes(self) -> int:
        """Payload sent, what TCP sent again aside."""
        return len(self.up) + sum(_length(connection.up) for connection in self.connections)

    @property
    def down_bytes(self) -> int:
        """Payload received, what TCP sent again aside."""
        return len(self.down) + sum(_length(connection.down) for connection in self.connections)


def _length(joined: Joined) -> int:
    return len(joined.data) + sum(map(len, joined.others))


class _Reader:
    """Sorts the frames of one file."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._device = b""
        """The address that opens connections to the server's port."""
        self._streams: dict[Way, Stream] = {}
        self._closed: list[tuple[Way, Stream]] = []
        """Of connections whose ports were used again."""
        self._loose: dict[bytes, bytearray] = {}
        """Payloads that are in no stream, by their senders' addresses."""
        self._frames = self._cut = self._fragments = 0

    def take(self, frame: bytes) -> None:
        """The next frame of the file."""
        self._frames += 1
        packet = _packet(frame)
        if not isinstance(packet, dpkt.ip.IP):
            self._put_aside(b"", frame)  # ARP and the like.
            return
        segment, end = packet.data, _ETHERNET_BYTES + packet.len
        raw = frame[_ETHERNET_BYTES + 4 * packet.hl : end]
        self._cut += end > len(frame)
        self._fragments += bool(packet.mf or packet.offset)
        if isinstance(segment, dpkt.tcp.TCP) and _is_whole(packet, raw):
            self._sort(packet, segment)
        else:  # What a link has damaged TCP does not take, and has sent again.
            self._put_aside(packet.src, raw)

    def _sort(self, packet: dpkt.ip.IP, segment: dpkt.tcp.TCP) -> None:
        way = (packet.src, segment.sport, packet.dst, segment.dport)
        back = (packet.dst, segment.dport, packet.src, segment.sport)
        if segment.flags & _SYN:
            if segment.dport == self._server_port and not segment.flags & _ACK:
                self._device = self._device or packet.src
            if way in self._streams and not self._streams[way].begins_with(segment.seq):
                self._closed.append((way, self._streams.pop(way)))
            self._streams.setdefault(way, Stream()).begin(segment.seq)
        stream = self._streams.setdefault(way, Stream())
        stream.add(segment.seq, bytes(segment.data), fin=bool(segment.flags & _FIN))
        if segment.flags & _ACK and back in self._streams:
            self._streams[back].acknowledge(segment.ack)

    def _put_aside(self, sender: bytes, payload: bytes) -> None:
        self._loose.setdefault(sender, bytearray()).extend(payload)

    def conclude(self) -> Crossed:
        """After the last frame."""
        found = Crossed(frames=self._frames)
        if self._device:
            found.up = bytes(self._loose.pop(self._device, b""))
        else:
            found.problems.append(f"no connection to the server's port {self._server_port} was captured")
        found.down = b"".join(map(bytes, self._loose.values()))
        if self._cut:
            found.problems.append(f"{self._cut} frames were cut short: capture with network.snaplen=64kB")
        if self._fragments:
            found.problems.append(f"{self._fragments} IP fragments, which are not put together here")
        self._pair(found)
        return found

    def _pair(self, found: Crossed) -> None:
        """The two directions of each connection, and what is missing of them."""
        late = missing = 0
        nothing = Joined(b"", [], 0)
        one_way: dict[Way, list[Joined]] = {}
        streams = [*self._closed, *self._streams.items()]
        self._streams.clear()
        for way, stream in streams:
            joined = stream.join()
            late += stream.begins_late
            missing += joined.missing_bytes
            source, sport, destination, dport = way
            if waiting := one_way.get((destination, dport, source, sport)):
                pair = (joined, waiting.pop(0))
                found.connections.append(Connection(*(pair if source == self._device else pair[::-1])))
            else:
                one_way.setdefault(way, []).append(joined)
        for (source, *_), alone in one_way.items():
            for joined in alone:
                pair = (joined, nothing) if source == self._device else (nothing, joined)
                found.connections.append(Connection(*pair))
        if late:
            found.problems.append(f"{late} directions of TCP connections began before the capture did")
        if missing:
            found.problems.append(f"{missing} bytes were received by TCP but not captured")


def read_capture(path: Path, server_port: int) -> Crossed:
    """Everything in a pcap file of a device's own interface. Raises CaptureError.

    The device is the one that opens connections to `server_port`. Holds the file's payloads in memory.
    """
    reader = _Reader(server_port)
    for frame in _frames(path):
        reader.take(frame)
    return reader.conclude()


def _frames(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            for _, frame in dpkt.pcap.Reader(file):
                yield frame
    except (OSError, ValueError, dpkt.Error) as error:
        raise CaptureError(f"{path} is not a capture: {' '.join(str(error).split())}") from error


def _packet(frame: bytes) -> object:
    """The IPv4 packet in a frame, or whatever else it is."""
    try:
        return dpkt.ethernet.Ethernet(frame).data
    except dpkt.Error:
        return frame


def _is_whole(packet: dpkt.ip.IP, segment: bytes) -> bool:
    """Whether a segment's checksum is right (RFC 9293, 3.1); on emulated links nothing is offloaded."""
    if packet.mf or packet.offset:
        return False
    pseudo = packet.src + packet.dst + struct.pack("!BBH", 0, packet.p, len(segment))
    return bool(dpkt.in_cksum(pseudo + segment) == 0)
