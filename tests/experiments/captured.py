"""Captures made by hand: frames of TCP connections that carry gRPC, as a device's interface shows them."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable
from pathlib import Path

import dpkt
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from proto import federation_pb2 as pb
from proto.payload import chunks

DEVICE, SERVER = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1])
PORT, OWN_PORT = 50051, 40000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SEGMENT = 1448


def frame(
    up: bool, sequence: int, acknowledged: int, payload: bytes = b"", flags: int = dpkt.tcp.TH_ACK
) -> bytes:
    """An Ethernet frame of the connection between device and server, its checksums right."""
    ends = ((DEVICE, OWN_PORT), (SERVER, PORT)) if up else ((SERVER, PORT), (DEVICE, OWN_PORT))
    segment = dpkt.tcp.TCP(
        sport=ends[0][1],
        dport=ends[1][1],
        seq=sequence % 2**32,
        ack=acknowledged % 2**32,
        flags=flags,
        data=payload,
    )
    packet = dpkt.ip.IP(src=ends[0][0], dst=ends[1][0], p=dpkt.ip.IP_PROTO_TCP, data=segment)
    packet.len = len(packet)
    return bytes(dpkt.ethernet.Ethernet(src=b"\x02" * 6, dst=b"\x04" * 6, data=packet))


def connection(up: bytes, down: bytes, *, first: tuple[int, int] = (2**32 - 700, 5000)) -> list[bytes]:
    """A whole connection: handshake, both directions' data with an acknowledgement each, and the end."""
    one, other = first
    syn, ack, fin = dpkt.tcp.TH_SYN, dpkt.tcp.TH_ACK, dpkt.tcp.TH_FIN
    frames = [
        frame(True, one, 0, flags=syn),
        frame(False, other, one + 1, flags=syn | ack),
        frame(True, one + 1, other + 1),
    ]
    for way, data, base, back in (
        (True, up, one + 1, other + 1),
        (False, down, other + 1, one + 1 + len(up)),
    ):
        for at in range(0, len(data), SEGMENT):
            part = data[at : at + SEGMENT]
            frames += [
                frame(way, base + at, back, part),
                frame(not way, back, base + at + len(part)),
            ]
    one, other = one + 1 + len(up), other + 1 + len(down)
    return [
        *frames,
        frame(True, one, other, flags=fin | ack),
        frame(False, other, one + 1, flags=fin | ack),
        frame(True, one + 1, other + 1),
    ]


def write_pcap(path: Path, frames: Iterable[bytes], snaplen: int = 65535) -> None:
    """As emulation.capture writes it."""
    buffer = io.BytesIO()
    writer = dpkt.pcap.Writer(buffer, snaplen=snaplen, nano=True)
    for number, content in enumerate(frames):
        writer.writepkt(content[:snaplen], ts=number)
    path.write_bytes(buffer.getvalue())


def grpc(message: bytes, *, compressed: bool = False) -> bytes:
    """A message with gRPC's prefix."""
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


def upload(payload: bytes, round_number: int = 1, chunk_bytes: int = 64 * 1024) -> bytes:
    """The body of an Upload call."""
    header = pb.UploadHeader(
        key=pb.UploadKey(client_id="dev0", run_id="run", round=round_number), payload_bytes=len(payload)
    )
    parts = [pb.UploadPart(header=header)]
    parts += [pb.UploadPart(chunk=chunk) for chunk in chunks([payload], chunk_bytes=chunk_bytes)]
    return b"".join(grpc(part.SerializeToString()) for part in parts)


def http2(bodies: dict[int, bytes], *, most: int = 16384, preface: bool, seed: int = 0) -> bytes:
    """Streams' bodies in DATA frames of up to `most` bytes, in turns as chance will have it."""
    chance = random.Random(seed)
    left = {number: memoryview(body) for number, body in bodies.items()}
    frames = [SettingsFrame(0).serialize()]
    frames += [HeadersFrame(number, b"\x82", flags=["END_HEADERS"]).serialize() for number in bodies]
    while left:
        number = chance.choice(sorted(left))
        size = chance.randint(1, most)
        part, left[number] = left[number][:size], left[number][size:]
        end = ["END_STREAM"] if not left[number] else []
        frames.append(DataFrame(number, part.tobytes(), flags=end).serialize())
        if end:
            del left[number]
    return (PREFACE if preface else b"") + b"".join(frames)
