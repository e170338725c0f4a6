"""An update on its way up: decoded and added to a round's sum while it arrives, whole or not at all.

The encoded bytes wait in a file until the update counts. If it fails half-way (a lost device, a damaged
segment, NaN, the deadline), its segments are decoded again from there and subtracted, to the bit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from proto.codecs import Codec, CodecError
from proto.federation_pb2 import Chunk
from proto.payload import Intake
from proto.segments import SegmentDecoder
from server.aggregation.fedavg import OutOfRangeError, Tally
from server.float_file import FloatFile
from server.spool import Spool

_INBOX_BYTES = 256 * 1024
"""How much of one update may wait in memory until a thread has time for it."""


class Upload:
    """One update of `size` values, at most `payload_bytes` long, of `weight` examples in the sum `total`.

    Its work is done by `executor`, one piece after the other and in order. A handler that waits for it
    may be cancelled when its connection breaks; the work is not, and another connection goes on with it.
    """

    def __init__(
        self,
        codec: Codec,
        size: int,
        *,
        payload_bytes: int,
        total: Tally | None,
        weight: int,
        folder: Path,
        executor: Executor,
    ) -> None:
        self.message_bytes = 0
        self.closed = asyncio.Event()
        """Nothing more is wanted: the update counts, or never will."""
        self._codec, self._size, self._folder = codec, size, folder
        self._intake = Intake(payload_bytes)
        self._executor = executor
        self._inbox: list[bytes] = []
        self._inbox_bytes = 0
        self._absorbing: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None
        # From here on touched by the work only, of which there is never more than one piece at a time.
        self._spool = Spool(folder)
        self._decoder = SegmentDecoder(codec, size)
        self._error: Exception | None = None
        self._sum = total
        self.weight = weight
        self._added = 0

    @property
    def received(self) -> int:
        """Payload bytes that have come."""
        return self._intake.received

    def take(self, chunk: Chunk) -> None:
        """The next chunk. Raises PayloadError, and the update is as it was."""
        if data := self._intake.accept(chunk):
            self._inbox.append(data)
            self._inbox_bytes += len(data)
            if self._absorbing is None or self._absorbing.done():
                self._absorbing = self._schedule(self._absorb_inbox)

    async def room(self) -> None:
        """Until another chunk may be taken. Raises CodecError, OutOfRangeError or OSError: all is in vain."""
        while self._inbox_bytes > _INBOX_BYTES and self._absorbing is not None:
            await asyncio.shield(self._absorbing)
        if self._error is not None:
            raise self._error

    async def absorbed(self) -> bool:
        """When all that has come is decoded: whether that is the whole update. Raises as `room` does."""
        while self._last is not None and not self._last.done():
            await asyncio.shield(self._last)
        if self._error is not None:
            raise self._error
        return self._decoder.complete

    async def attach(self, total: Tally, weight: int) -> None:
        """Add what has come to `total`, as the update of `weight` examples, and what is still to come."""
        await asyncio.shield(self._schedule(partial(self._in_thread, partial(self._attach, total, weight))))

    async def detach(self) -> None:
        """Subtract it all again; its bytes stay."""
        await asyncio.shield(self._schedule(partial(self._in_thread, self._detach)))

    async def discard(self) -> None:
        """Subtract it all again and forget it."""
        self.closed.set()
        await self.detach()
        self._spool.close()

    def keep(self, *, bytes_too: bool = False) -> None:
        """It counts: its values stay where they were added; its bytes are forgotten, or stay too."""
        self.closed.set()
        self._sum = None
        if not bytes_too:
            self._spool.close()

    def values(self) -> FloatFile:
        """All of a kept update, decoded from its bytes, which are forgotten; to be called in a thread."""
        file = FloatFile(self._folder, self._size)
        decoder = SegmentDecoder(self._codec, self._size)
        for block in self._spool.blocks():
            for start, values in decoder.feed(block):
                file.write(start, values)
        self._spool.close()
        return file

    def _schedule(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Do `work` after all that was scheduled before it."""

        async def after(previous: asyncio.Task[None] | None) -> None:
            if previous is not None:
                await asyncio.wait([previous])
            await work()

        self._last = asyncio.ensure_future(after(self._last))
        return self._last

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _absorb_inbox(self) -> None:
        while self._inbox:
            data, self._inbox, self._inbox_bytes = self._inbox, [], 0
            await self._in_thread(partial(self._absorb, b"".join(data)))

    def _absorb(self, data: bytes) -> None:
        if self._error is not None or self.closed.is_set():
            return
        try:
            self._spool.append(data)
            self._add(data)
        except (CodecError, OutOfRangeError, OSError) as error:
            self._error = error

    def _add(self, data: bytes) -> None:
        for start, values in self._decoder.feed(data):
            if self._sum is not None:
                self._sum.add(values, start, self.weight)
                self._added += 1

    def _attach(self, total: Tally, weight: int) -> None:
        self._detach()
        self._sum, self.weight = total, weight
        self._decoder = SegmentDecoder(self._codec, self._size)
        try:
            for block in self._spool.blocks():
                self._add(block)
        except (CodecError, OutOfRangeError, OSError) as error:
            self._error = error

    def _detach(self) -> None:
        total, self._sum = self._sum, None
        if total is None or self._added == 0:
            return
        decoder = SegmentDecoder(self._codec, self._size)
        for block in self._spool.blocks():
            for start, values in decoder.feed(block):
                total.subtract(values, start, self.weight)
                self._added -= 1
                if self._added == 0:
                    return  # The segment after it may be the one that cannot be decoded.
