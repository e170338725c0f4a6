"""A payload on its way down: encoded once, read by every device that gets it, each at its own speed."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from pathlib import Path

from proto.exchange import WHOLE, Exchange
from proto.federation_pb2 import Chunk
from proto.payload import CHUNK_BYTES, chunks
from proto.segments import Segments
from server.changes import Changes
from server.spool import Spool

_BATCH_SEGMENTS = 8
_BATCH_BYTES = 4 * CHUNK_BYTES


class Broadcast:
    """One payload in an unlinked file in `folder`; whoever reads waits for what is not encoded yet.

    A file and not memory: in fp32 the payload is as large as the model. `pieces` are the encoded `segments`;
    `base_round` tells to which round's adapter they are the difference (0: they are all of one).
    """

    def __init__(
        self,
        segments: Segments,
        pieces: Iterator[bytes],
        *,
        folder: Path,
        executor: Executor,
        base_round: int = 0,
        exchange: Exchange = WHOLE,
    ) -> None:
        self.codec = segments.codec
        self.base_round = base_round
        self.exchange = exchange
        """What of the model it brings."""
        self.id = uuid.uuid4().bytes
        """Tells this payload from all others: the same id, the same bytes."""
        self._pieces = pieces
        self.payload_bytes = segments.payload_bytes
        """As RoundStart.payload_bytes."""
        self._spool = Spool(folder)
        self._executor = executor
        self._encoded = 0
        self._all_encoded = False
        self._changes = Changes()

    @property
    def kind(self) -> str:
        """As in clients.csv."""
        return "delta" if self.base_round else self.exchange.kind

    async def encode(self) -> None:
        """All of it; what the pieces are made of must not change before this returns. Raises CodecError."""
        loop = asyncio.get_running_loop()
        while written := await loop.run_in_executor(self._executor, self._write):
            self._encoded += written
            self._changes.announce()
        self._all_encoded = True
        self.payload_bytes = self._encoded
        self._changes.announce()

    def _write(self) -> int:
        batch = b"".join(islice(self._pieces, _BATCH_SEGMENTS))
        self._spool.append(batch)
        return len(batch)

    def is_whole(self, sent_bytes: int) -> bool:
        """Whether the payload ends there."""
        return self._all_encoded and sent_bytes == self.payload_bytes

    async def chunks(self, offset: int) -> AsyncIterator[Chunk]:
        """From byte `offset` on, as far as the payload goes."""
        loop = asyncio.get_running_loop()
        while True:
            await self._changes.until(partial(self._more_than, offset))
            if offset >= self._encoded:
                return
            count = min(_BATCH_BYTES, self._encoded - offset)
            for chunk in await loop.run_in_executor(self._executor, self._read, offset, count):
                yield chunk
            offset += count

    def _more_than(self, offset: int) -> bool:
        return offset < self._encoded or self._all_encoded

    def _read(self, offset: int, count: int) -> list[Chunk]:
        return list(chunks([self._spool.read(offset, count)], offset))
