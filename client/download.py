"""A round's global adapter on its way down: decoded while it comes, kept when the connection breaks.

It comes whole, or as the difference to the one the device holds, which becomes the new one in place.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from client.counters import read_counters
from client.progress import Progress
from proto import codecs
from proto import federation_pb2 as pb
from proto.adapter import Vector
from proto.events import EventLog
from proto.payload import Intake, PayloadError
from proto.segments import SegmentDecoder, Segments


class Download:
    """One payload; memory is the vector it becomes and less than a segment more.

    `base`, shape (size,), is the adapter of `start.base_round`, if the device holds it: the download's from
    now on. Raises PayloadError where it is missing.
    """

    def __init__(self, start: pb.RoundStart, size: int, events: EventLog, base: Vector | None = None) -> None:
        codec = codecs.parse(start.downlink_codec)
        most = Segments(codec, size).payload_bytes
        if start.payload_bytes > most:
            raise PayloadError(f"{start.payload_bytes} bytes announced, {size} values make {most}")
        if start.base_round and base is None:
            raise PayloadError(
                f"a difference to the adapter of round {start.base_round}, which is not held here"
            )
        self.start = start
        self._name = "delivery" if start.ask == pb.ASK_ACCEPT else "download"
        self.vector: Vector | None = np.empty(size, np.float32) if base is None else base
        """Shape (size,), decoded as far as it has come; None once it was taken out."""
        self._intake = Intake(start.payload_bytes)
        self._decoder = SegmentDecoder(codec, size)
        self._message_bytes = 0
        self._events = events
        self._progress = Progress(events, "download_progress", start.round)
        events.write(f"{self._name}_first", round=start.round, payload_bytes=start.payload_bytes)

    @property
    def received(self) -> int:
        """Payload bytes that have come."""
        return self._intake.received

    @property
    def complete(self) -> bool:
        """Whether the vector is whole."""
        return self._decoder.complete

    @property
    def _kind(self) -> str:
        """As in clients.csv."""
        if self.start.base_round:
            return "delta"
        return "full" if self.start.down_factors == "AB" and not self.start.merge_rank else "part"

    def count(self, instruction: pb.Instruction) -> None:
        """A message about this payload that brings nothing of it."""
        self._message_bytes += instruction.ByteSize()

    def add(self, instruction: pb.Instruction) -> None:
        """The next chunk. Raises PayloadError, CodecError."""
        self.count(instruction)
        if self.vector is None:
            raise PayloadError(f"more than the {self.received} bytes of round {self.start.round}")
        for first, values in self._decoder.feed(self._intake.accept(instruction.chunk)):
            part = self.vector[first : first + values.size]
            if self.start.base_round:
                part += values
            else:
                part[:] = values
        self._progress.report(self.received)

    def take(self) -> Vector:
        """The whole vector, which is the caller's from now on."""
        assert self.vector is not None and self.complete
        self._events.write(
            f"{self._name}_end",
            round=self.start.round,
            kind=self._kind,
            payload_bytes=self.received,
            message_bytes=self._message_bytes,
            **asdict(read_counters()),
        )
        vector, self.vector = self.vector, None
        return vector
