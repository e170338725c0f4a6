"""What goes down in a round: the global adapter, or the difference to the one that devices hold.

With differences the server keeps V, the version that up-to-date devices hold, beside the global adapter G. A
round sends d = encode(G - V), and V moves as the devices' does: V <- V + decode(d), to the bit. What a codec
that loses left out is still in G - V, and goes down later: error feedback at the server. (With one that loses
nothing V is G but for float32's rounding of a difference, which goes down later too.) Devices train from V,
what they send is the difference to V, and with it comes their V's checksum: should another machine's numpy
decode otherwise, its update is refused, and it gets V whole in the next round.

Who holds the version before, for certain, gets d; anyone else gets V itself in a codec that is exact. Certain
is a device whose update of that round has begun to come, in the session it is in now: it had the whole
adapter by then. Who was not in the last round, was cut off in it or has been restarted gets V whole. Where
nobody holds the version before, V is G.

Memory: V is one vector more (G, V and an int64 sum: four times the adapter); on disk there are two payloads.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from collections.abc import Awaitable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np

from proto import codecs
from proto.adapter import Vector
from proto.codecs import Codec, CodecError
from proto.events import EventLog
from proto.segments import SegmentEncoder, Segments
from server.broadcast import Broadcast
from server.devices import Device


def parse_exact(text: str) -> Codec:
    """The codec written `text`, which must lose nothing. Raises CodecError."""
    codec = codecs.parse(text)
    rng = np.random.default_rng(0)
    probe = np.ldexp(rng.standard_normal(4096), rng.integers(-140, 30, 4096)).astype(np.float32)
    try:
        exact = codec.decode(codec.encode(probe, rng), probe.size).tobytes() == probe.tobytes()
    except CodecError:  # It has no room for numbers as large as these.
        exact = False
    if not exact:
        raise CodecError(f"'{text}' does not keep every bit of every number; fp32 does")
    return codec


class Payloads:
    """The payloads of one round: two at most, each encoded once and only if somebody needs it."""

    def __init__(
        self, full: Broadcast, delta: Broadcast | None, *, keep: bool, first: Awaitable[None] | None
    ):
        self.keep = keep
        """Whether devices are to hold on to the adapter that came down."""
        self._full, self._delta = full, delta
        self._full_wanted = False
        self._first = None if first is None else asyncio.ensure_future(first)
        self._tasks = [] if self._first is None else [self._first]

    def want_full(self) -> Broadcast:
        """Somebody needs the whole adapter."""
        if not self._full_wanted:
            self._full_wanted = True
            self._tasks.append(asyncio.ensure_future(self._encode_full()))
        return self._full

    def choose(self, device: Device, held_payload: bytes) -> Broadcast:
        """The payload for a device that has bytes of `held_payload`, if it is one of these; else by what it
        is known to hold."""
        if self._delta is None or held_payload == self._full.id:
            return self.want_full()
        if held_payload == self._delta.id or device.version == self._delta.base_round:
            return self._delta
        return self.want_full()

    async def encoded(self) -> None:
        """When all is encoded that anybody needs so far. Raises CodecError, OSError."""
        await asyncio.gather(*self._tasks)

    async def _encode_full(self) -> None:
        if self._first is not None:
            await self._first
        await self._full.encode()


class Downlink:
    """What goes down, round after round: always the whole adapter in `codec`, or, with an exact `full_codec`
    for those that need it whole, differences in `codec`."""

    def __init__(
        self,
        codec: Codec,
        full_codec: Codec | None,
        size: int,
        *,
        seed: int,
        folder: Path,
        executor: Executor,
        events: EventLog,
    ) -> None:
        self._codec, self._full_codec, self._size = codec, full_codec, size
        self._seed, self._folder, self._executor, self._events = seed, folder, executor, events
        self.version: Vector = np.zeros(size if full_codec else 0, np.float32)
        """V."""
        self.crc32 = 0
        """Of V, as UploadHeader.adapter_crc32; 0 where no version is kept. Known before all of V can be."""
        self._round = 0
        """Whose adapter V is; 0 before the first."""

    def open(self, number: int, adapter: Vector, cohort: Sequence[Device]) -> Payloads:
        """The payloads of round `number`. Until they are encoded `adapter`, shape (size,), must not change,
        and no other round be opened."""
        if self._full_codec is None or not cohort:
            payloads = Payloads(self._full(self._codec, adapter, number), None, keep=False, first=None)
            if cohort:
                payloads.want_full()
            return payloads
        base, self._round = self._round, number
        full = self._full(self._full_codec, self.version, number)
        current = [base > 0 and device.version == base for device in cohort]
        if any(current):
            pieces = self._difference(adapter, number, base)
            delta = self._broadcast(Segments(self._codec, self._size), pieces, base_round=base)
            payloads = Payloads(full, delta, keep=True, first=delta.encode())
        else:
            payloads = Payloads(full, None, keep=True, first=self._adopt(adapter))
        if not all(current):
            payloads.want_full()
        return payloads

    def _full(self, codec: Codec, vector: Vector, number: int) -> Broadcast:
        encoder = SegmentEncoder(codec, vector, (self._seed, number))
        return self._broadcast(encoder.segments, encoder.pieces())

    def _broadcast(self, segments: Segments, pieces: Iterator[bytes], base_round: int = 0) -> Broadcast:
        return Broadcast(
            segments, pieces, folder=self._folder, executor=self._executor, base_round=base_round
        )

    async def _adopt(self, adapter: Vector) -> None:
        """Nobody holds anything: V is G."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, partial(np.copyto, self.version, adapter))
        self.crc32 = await loop.run_in_executor(self._executor, zlib.crc32, self.version.data)

    def _difference(self, adapter: Vector, number: int, base: int) -> Iterator[bytes]:
        """The segments of G - V, encoded; with each of them V moves."""
        square, crc = 0.0, 0
        encoder = SegmentEncoder(self._codec, _Difference(adapter, self.version), (self._seed, number))
        for piece, start, values in encoder.echo():
            part = slice(start, start + values.size)
            self.version[part] += values
            rest = (adapter[part] - self.version[part]).astype(np.float64)
            square += float(np.dot(rest, rest))
            self.crc32 = crc = zlib.crc32(self.version[part].data, crc)
            yield piece
        self._events.write("downlink_delta", round=number, base_round=base, residual_norm=math.sqrt(square))


class _Difference:
    """a - b, computed where it is read: no vector of its own."""

    def __init__(self, a: Vector, b: Vector) -> None:
        self._a, self._b = a, b
        self.size: int = a.size

    def __getitem__(self, part: slice) -> Vector:
        difference: Vector = self._a[part] - self._b[part]
        return difference
