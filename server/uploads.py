"""An update on its way up: decoded and added to a round's sum while it arrives, whole or not at all.

The encoded bytes wait in a file until the update counts. If it fails half-way (a lost device, a damaged
segment, NaN, the deadline), its segments are decoded again from there and subtracted, to the bit.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from proto.codecs import Codec, CodecError
from proto.segments import SegmentDecoder
from server.aggregation.fedavg import OutOfRangeError, Tally
from server.float_file import FloatFile
from server.incoming import Incoming
from server.spool import Spool


class Upload(Incoming):
    """One update of `size` values, at most `payload_bytes` long, of `weight` examples in the sum `total`."""

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
        super().__init__(payload_bytes, weight, executor)
        self._codec, self._size, self._folder = codec, size, folder
        # From here on touched by the work only, of which there is never more than one piece at a time.
        self._spool = Spool(folder)
        self._decoder = SegmentDecoder(codec, size)
        self._sum = total
        self._added = 0

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

    @property
    def _complete(self) -> bool:
        return self._decoder.complete

    def _use(self, data: bytes) -> None:
        self._spool.append(data)
        self._add(data)

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
