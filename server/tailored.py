"""What goes down where devices need different things: a part of the adapter, a merge, factors of their rank.

A device gets what it does not have yet (proto/exchange.py), so the server must know what it holds. It says so
whenever it connects, and what a connection that lasts has carried whole, it holds too. Devices that need the
same get the same payload, encoded once.

Merges are for good, so everybody must have merged the same. Where the downlink's codec loses something, what
it makes of a round's merge becomes that merge for the server too; devices that take part in every round get
just those bytes, and who has missed some gets them exactly, in `full_codec`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import numpy as np

from proto.adapter import Vector
from proto.codecs import Codec
from proto.exchange import Exchange, Method
from proto.lora import LoraLayout, fresh_adapter
from proto.segments import SegmentEncoder, Segments
from server.broadcast import Broadcast
from server.devices import Device
from server.float_file import FloatFile
from server.global_model import GlobalModel

_Need = tuple[int, Exchange, int]
"""Rank of the factors, what crosses, and the first round whose merge is in it."""

_COPIED_VALUES = 2**18


class TailoredPayloads:
    """The payloads of one round, each made when the first device needs it."""

    keep = False

    def __init__(self, need: Callable[[Device], _Need], make: Callable[[_Need], Broadcast]) -> None:
        self._need, self._make = need, make
        self._payloads: dict[_Need, Broadcast] = {}
        self._encoding: list[asyncio.Task[None]] = []

    def choose(self, device: Device, held_payload: bytes) -> Broadcast:
        """The payload of which the device has bytes already; else what it needs."""
        for payload in self._payloads.values():
            if payload.id == held_payload:
                return payload
        need = self._need(device)
        if need not in self._payloads:
            self._payloads[need] = self._make(need)
            previous = self._encoding[-1] if self._encoding else None
            self._encoding.append(asyncio.ensure_future(_encode(self._payloads[need], previous)))
        return self._payloads[need]

    async def encoded(self) -> None:
        """When all is encoded that anybody needs so far. Raises CodecError, OSError."""
        await asyncio.gather(*self._encoding)


async def _encode(payload: Broadcast, previous: asyncio.Task[None] | None) -> None:
    if previous is not None:  # One at a time: each takes memory.
        await asyncio.wait([previous])
    await payload.encode()


class Tailored:
    """As server.downlink.Downlink, for methods that send less or more than the adapter."""

    crc32 = 0
    """No differences to a version: no device is asked for its checksum."""

    def __init__(
        self,
        method: Method,
        model: GlobalModel,
        *,
        codec: Codec,
        full_codec: Codec,
        lora_of: Callable[[Device], LoraLayout],
        seed: int,
        folder: Path,
        executor: Executor,
    ) -> None:
        self._method, self._model = method, model
        self._codec, self._full_codec = codec, full_codec
        self._lora_of = lora_of
        self._seed = seed
        self._seeded = np.array_equal(model.adapter, fresh_adapter(model.layout, (seed,)))
        self._folder, self._executor = folder, executor
        self._made: tuple[int, FloatFile] | None = None
        """The values of the payload of a round, before the codec, where it loses something of a merge."""

    def open(self, number: int, adapter: Vector, cohort: Sequence[Device]) -> TailoredPayloads:
        """The payloads of round `number`; until they are encoded the model must not change."""
        payloads = TailoredPayloads(partial(self._need, number), partial(self._make, number))
        for device in cohort:
            if device.connected:  # What another one holds it will say when it is back.
                payloads.choose(device, b"")
        return payloads

    def adopt(self, number: int) -> None:
        """Round `number` has made its step. What the codec makes of its merge is the merge from now on."""
        merge = self._model.merges.get(number)
        if merge is None or self._codec.name == self._full_codec.name:
            return
        exchange = self._exchange(number + 1, number, since=number)
        values = self._values(self._model.lora, exchange, since=number)
        first = values.size - merge.values.size
        for _, start, decoded in SegmentEncoder(self._codec, values, (self._seed, number + 1)).echo():
            skipped = max(0, first - start)
            if skipped < decoded.size:
                merge.values.write(start + skipped - first, decoded[skipped:])
        self._made = number + 1, values

    def _need(self, number: int, device: Device) -> _Need:
        held = device.started()
        since = self._model.first_merge(held, number)
        exchange = self._exchange(number, held, since)
        lora = self._lora_of(device) if exchange.down else self._model.lora
        return lora.rank or 0, exchange, since

    def _exchange(self, number: int, held: int, since: int) -> Exchange:
        rank = self._model.merged_rank(since) if self._method.merges else 0
        seed = (self._seed, number) if self._method.fresh else (self._seed,)
        return self._method.exchange(number, held=held, seed=seed, seeded=self._seeded, merge_rank=rank)

    def _make(self, number: int, need: _Need) -> Broadcast:
        rank, exchange, since = need
        model = self._model
        lora = model.lora if rank == model.lora.rank else LoraLayout(model.lora.with_rank(rank))
        usual = since >= number - 1
        # A factor that never comes again, as FFA-LoRA's A, would be wrong for good.
        for_good = exchange.down == "AB" and self._method.phases != ("AB",)
        codec = self._codec if usual and not for_good else self._full_codec

        def pieces() -> Iterator[bytes]:
            made = self._made if usual and exchange.merge_rank else None
            values = made[1] if made and made[0] == number else self._values(lora, exchange, since)
            yield from SegmentEncoder(codec, values, (self._seed, number)).pieces()
            values.close()

        return Broadcast(
            Segments(codec, exchange.down_size(lora)),
            pieces(),
            folder=self._folder,
            executor=self._executor,
            exchange=exchange,
        )

    def _values(self, lora: LoraLayout, exchange: Exchange, since: int) -> FloatFile:
        """What a payload says: the adapter's factors at the rank of `lora`, merges of round `since` on."""
        model = self._model
        values = FloatFile(self._folder, exchange.down_size(lora))
        first = 0
        if exchange.down:
            own = lora is model.lora
            adapter = model.adapter if own else model.lora.resize(model.adapter, lora.rank or 0)
            part = lora.take(adapter, exchange.down)
            values.write(0, part)
            first = part.size
        if exchange.merge_rank:
            merge = model.merged(since)
            for start in range(0, merge.values.size, _COPIED_VALUES):
                values.write(first + start, merge.values[start : start + _COPIED_VALUES])
        return values
