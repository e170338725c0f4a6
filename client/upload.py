"""What goes up, an update or training data: made while it is sent, and sent on from where a cut left it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from client.counters import read_counters
from client.progress import Progress
from client.training import Source
from proto import codecs, federation_pb2_grpc
from proto import federation_pb2 as pb
from proto.adapter import Vector
from proto.codecs import CodecError
from proto.events import EventLog
from proto.payload import chunks
from proto.segments import SegmentEncoder

log = logging.getLogger("client")

_DAMAGED_ATTEMPTS = 5
"""How often an update is sent on after the server found it damaged; cuts do not count."""


class Upload:
    """A payload until the server has it, or has turned it down.

    `codec` names what `source` gives; `told` are the fields of UploadHeader that say how it came about.
    """

    def __init__(
        self, key: pb.UploadKey, codec: str, source: Source, told: Mapping[str, Any], events: EventLog
    ) -> None:
        self.round_number = key.round
        self._key, self._codec, self._source = key, codec, source
        self._told, self._events = told, events
        self._attempt = 0
        self._failure: CodecError | None = None

    def send(self, stub: federation_pb2_grpc.FederationStub, timeout_s: float) -> bool:
        """Upload it, or what is missing of it; whether the server has taken it.

        Raises RpcError when the connection breaks, CodecError.
        """
        offset = 0
        if self._attempt:
            held = stub.UploadStatus(self._key, timeout=timeout_s)
            if held.status != pb.STATUS_OK:
                return self._settled(held)
            offset = held.received
        damaged = 0
        while True:
            self._attempt += 1
            reply = stub.Upload(self._parts(offset))
            if self._failure is not None:
                raise self._failure
            offset = reply.received
            damaged += 1
            again = reply.status in (pb.STATUS_CORRUPT, pb.STATUS_INCOMPLETE)
            if not again or damaged >= _DAMAGED_ATTEMPTS:
                return self._settled(reply)

    def _parts(self, offset: int) -> Iterator[pb.UploadPart]:
        """Header and chunks; gRPC takes the next part when the last is on its way."""
        try:
            pieces = self._source.pieces(offset)
            first = next(pieces, b"")
            if self._attempt == 1:
                length = self._source.payload_bytes
                self._write("encode_end", payload_bytes=length, **asdict(read_counters()))
            self._write("upload_start", attempt=self._attempt, offset=offset)
            yield pb.UploadPart(header=self._header(offset))
            progress = Progress(self._events, "upload_progress", self.round_number)
            for chunk in chunks(chain([first], pieces), offset):
                yield pb.UploadPart(chunk=chunk)
                progress.report(chunk.offset + len(chunk.data))
        except CodecError as error:  # gRPC would swallow it.
            self._failure = error

    def _header(self, offset: int) -> pb.UploadHeader:
        return pb.UploadHeader(
            key=self._key,
            attempt=self._attempt,
            codec=self._codec,
            payload_bytes=self._source.payload_bytes,
            offset=offset,
            **self._told,
        )

    def _settled(self, reply: pb.UploadReply) -> bool:
        self._write(
            "upload_end",
            status=pb.Status.Name(reply.status),
            reason=reply.reason,
            attempts=self._attempt,
            encode_cpu_s=self._source.cpu_s,
            **asdict(read_counters()),
        )
        taken = reply.status in (pb.STATUS_OK, pb.STATUS_ALREADY_HELD)
        if not taken:
            log.warning("round %d: upload not taken: %s", self.round_number, reply.reason)
        return taken

    def _write(self, event: str, **fields: object) -> None:
        self._events.write(event, round=self.round_number, **fields)


class Update(Upload):
    """A device's update of one round.

    Holds `vector`, shape (size,), the difference to the adapter that came down, and never more of its
    encoding than is being sent: a segment gives the same bytes whenever it is encoded again.
    """

    def __init__(
        self, key: pb.UploadKey, codec: str, vector: Vector, told: Mapping[str, Any], events: EventLog
    ) -> None:
        self.vector = vector
        name = np.frombuffer(key.client_id.encode(), np.uint8)
        parsed = codecs.parse(codec)
        self.encoder = SegmentEncoder(parsed, vector, (key.round, *name.tolist()))
        super().__init__(key, parsed.name, self.encoder, told, events)


class Receipt:
    """Tells the server that the adapter of its last round has come whole."""

    def __init__(self, key: pb.UploadKey, codec: str, events: EventLog) -> None:
        self.round_number = key.round
        self._header = pb.UploadHeader(key=key, attempt=1, codec=codec, loss=float("nan"))
        self._events = events

    def send(self, stub: federation_pb2_grpc.FederationStub, timeout_s: float) -> bool:
        """As Upload.send; there is nothing to resume."""
        reply = stub.Upload(iter([pb.UploadPart(header=self._header)]), timeout=timeout_s)
        status = pb.Status.Name(reply.status)
        self._events.write("accepted", round=self.round_number, status=status, **asdict(read_counters()))
        return reply.status in (pb.STATUS_OK, pb.STATUS_ALREADY_HELD)
