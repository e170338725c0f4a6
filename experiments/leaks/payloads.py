"""From a TCP connection to what its application sent: HTTP/2 frames off, gRPC messages apart, and the chunks
of a payload in one piece again, so that nothing of it is cut where it crossed the link in parts.

HTTP/2: RFC 9113, sections 3.4 and 4. gRPC: github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import DataFrame, Frame

from experiments.leaks.capture import Connection
from proto import federation_pb2 as pb

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER, _MESSAGE_HEADER = 9, 5
_GZIP_OR_ZLIB = 47  # zlib's windowBits: 15, and 32 to tell which.


@dataclass
class Payloads:
    """What a connection carried, by direction, beside the bytes on the link themselves.

    `up_rounds`: round -> bytes of the update sent, counted by the offsets of its chunks. `problems` as in
    Crossed.
    """

    is_http2: bool
    up: list[bytes] = field(default_factory=list)
    down: list[bytes] = field(default_factory=list)
    up_rounds: dict[int, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def unframe(connection: Connection) -> Payloads:
    """Everything above TCP; nothing where it is not HTTP/2."""
    found = Payloads(connection.up.data.startswith(_PREFACE))
    if not found.is_http2:
        return found
    for way, data in (("up", connection.up.data[len(_PREFACE) :]), ("down", connection.down.data)):
        pieces = found.up if way == "up" else found.down
        try:
            for body in _bodies(data):
                pieces += _in_one_piece(body, found.up_rounds if way == "up" else {})
        except (HyperframeError, zlib.error, ValueError) as error:
            found.problems.append(f"HTTP/2 {way} cannot be read: {' '.join(str(error).split())}")
    return found


def _bodies(data: bytes) -> list[bytes]:
    """The body of each HTTP/2 stream, from a direction's frames; the last may be cut off. HyperframeError."""
    bodies: dict[int, bytearray] = {}
    view, at = memoryview(data), 0
    while at + _FRAME_HEADER <= len(data):
        frame, length = Frame.parse_frame_header(view[at : at + _FRAME_HEADER])
        at += _FRAME_HEADER
        if at + length > len(data):
            break
        if isinstance(frame, DataFrame):
            frame.parse_body(view[at : at + length])
            bodies.setdefault(frame.stream_id, bytearray()).extend(frame.data)
        at += length
    return [bytes(body) for body in bodies.values()]


def messages(body: bytes) -> Iterator[bytes]:
    """The gRPC messages in a stream's body, decompressed; a last one that was cut off is given as it is.

    Raises zlib.error, and ValueError for a flag that gRPC does not know.
    """
    at = 0
    while at + _MESSAGE_HEADER <= len(body):
        compressed = body[at]
        length = int.from_bytes(body[at + 1 : at + _MESSAGE_HEADER], "big")
        at += _MESSAGE_HEADER
        message = body[at : at + length]
        at += length
        if compressed > 1:
            raise ValueError(f"no gRPC message begins with {compressed}")
        yield zlib.decompress(message, _GZIP_OR_ZLIB) if compressed else message


def _in_one_piece(body: bytes, up_rounds: dict[int, int]) -> list[bytes]:
    """The chunks of a stream's messages joined by their offsets, and every message that is no chunk."""
    pieces: list[bytes] = []
    payload = bytearray()
    end, round_number = 0, None
    for message in messages(body):
        part = _upload_part(message)
        chunk = part.chunk
        if not chunk.data:
            pieces.append(message)
            if part.HasField("header"):
                round_number = part.header.key.round
            continue
        if chunk.offset != end and payload:
            pieces.append(bytes(payload))
            payload.clear()
        payload += chunk.data
        end = chunk.offset + len(chunk.data)
        if round_number is not None:
            up_rounds[round_number] = max(end, up_rounds.get(round_number, 0))
    return [*pieces, bytes(payload)] if payload else pieces


def _upload_part(message: bytes) -> pb.UploadPart:
    """A message read as a part of an upload; empty where it cannot be one.

    Which call a stream belongs to stands in its compressed headers and is not asked. An instruction on the
    way down has its chunk in the same field.
    """
    try:
        return pb.UploadPart.FromString(message)
    except DecodeError:
        return pb.UploadPart()
