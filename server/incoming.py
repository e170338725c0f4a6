"""A payload on its way up, taken chunk by chunk; what is made of its bytes is made in order, in threads."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from proto.codecs import CodecError
from proto.federation_pb2 import Chunk
from proto.payload import Intake
from server.aggregation.fedavg import OutOfRangeError, Tally

_INBOX_BYTES = 256 * 1024
"""How much of one payload may wait in memory until a thread has time for it."""


class Incoming(ABC):
    """At most `payload_bytes` of a device whose examples count `weight`.

    Its work is done by `executor`, one piece after the other and in order. A handler that waits for it
    may be cancelled when its connection breaks; the work is not, and another connection goes on with it.
    """

    def __init__(self, payload_bytes: int, weight: int, executor: Executor) -> None:
        self.message_bytes = 0
        self.weight = weight
        self.closed = asyncio.Event()
        """Nothing more is wanted: it counts, or never will."""
        self._intake = Intake(payload_bytes)
        self._executor = executor
        self._inbox: list[bytes] = []
        self._inbox_bytes = 0
        self._absorbing: asyncio.Task[None] | None = None
        self._last: asyncio.Task[None] | None = None
        # Touched by the work only, of which there is never more than one piece at a time.
        self._error: Exception | None = None

    @property
    def received(self) -> int:
        """Payload bytes that have come."""
        return self._intake.received

    def take(self, chunk: Chunk) -> None:
        """The next chunk. Raises PayloadError, and the payload is as it was."""
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
        """When all that has come is used: whether that is the whole payload. Raises as `room` does."""
        while self._last is not None and not self._last.done():
            await asyncio.shield(self._last)
        if self._error is not None:
            raise self._error
        return self._complete

    @property
    @abstractmethod
    def _complete(self) -> bool:
        """Whether what has been used is the whole payload."""

    @abstractmethod
    def _use(self, data: bytes) -> None:
        """The next bytes, in a thread. Raises CodecError, OutOfRangeError or OSError."""

    @abstractmethod
    def keep(self, *, bytes_too: bool = False) -> None:
        """All of it has been used, and it counts. Raises OSError."""

    @abstractmethod
    async def detach(self) -> None:
        """Undo what its bytes have done; they stay."""

    @abstractmethod
    async def discard(self) -> None:
        """Undo what its bytes have done, and forget them."""

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
            self._use(data)
        except (CodecError, OutOfRangeError, OSError) as error:
            self._error = error


@dataclass(frozen=True)
class Wanted:
    """What is taken of a device now: in which codec, and how much."""

    codec: str
    most_bytes: int
    because: str
    """What makes it so much, in words."""
    begin: Callable[[int, Tally | None, int], Incoming]
    """From payload bytes, sum and weight: a payload of which nothing has come. Raises Refusal, OSError."""
