"""One update and the sums it goes into: whole or not at all, to the bit, wherever it fails."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from proto import codecs
from proto.adapter import Vector
from proto.codecs import CodecError
from proto.federation_pb2 import Chunk
from proto.payload import chunks
from proto.segments import SEGMENT_VALUES, SegmentDecoder, SegmentEncoder
from server.aggregation.fedavg import FedAvg, OutOfRangeError
from server.aggregation.optimizer import Plain
from server.uploads import Upload

SIZE = 5 * SEGMENT_VALUES + 77
FP32, INT8 = codecs.parse("fp32"), codecs.parse("int8")
UPDATE = np.random.default_rng(0).standard_normal(SIZE, np.float32)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def upload(folder: Path, executor: ThreadPoolExecutor, total: FedAvg, codec: codecs.Codec = FP32) -> Upload:
    most = codec.encoded_bytes(SIZE)
    return Upload(codec, SIZE, payload_bytes=most, total=total, weight=3, folder=folder, executor=executor)


def parts(vector: Vector = UPDATE, codec: codecs.Codec = FP32) -> list[Chunk]:
    return list(chunks(SegmentEncoder(codec, vector, (1,)).pieces()))


def total_with(vector: Vector, weight: int) -> Vector:
    """A sum to which nothing but whole updates were added, made visible."""
    return moved(added(FedAvg(SIZE), vector, weight))


def added(sums: FedAvg, vector: Vector, weight: int) -> FedAvg:
    sums.add(vector, 0, weight)
    return sums


def moved(sums: FedAvg) -> Vector:
    """What the sum would do to an adapter of zeros if one example counted."""
    sums.weight = sums.weight or 1
    adapter = np.zeros(SIZE, np.float32)
    Plain().step(adapter, sums.means())
    return adapter


@pytest.mark.parametrize("codec", [FP32, INT8], ids=["fp32", "int8"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_an_update_withdrawn_anywhere_leaves_the_others_as_they_were(
    tmp_path: Path, executor: ThreadPoolExecutor, codec: codecs.Codec, share: float
) -> None:
    async def scenario() -> None:
        one = upload(tmp_path, executor, total, codec)
        sent = parts(codec=codec)
        for chunk in sent[: int(share * len(sent))]:
            one.take(chunk)
            await one.room()
        assert await one.absorbed() == (share == 1.0)
        if share > 0.4:
            assert moved(total).tobytes() != others.tobytes()  # It had been added.
        await one.discard()

    others = total_with(UPDATE[::-1], 5)
    total = added(FedAvg(SIZE), UPDATE[::-1], 5)
    asyncio.run(scenario())
    assert moved(total).tobytes() == others.tobytes()


def test_an_update_moves_from_one_round_to_the_next_while_it_comes(
    tmp_path: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of the sum of the round that closes; on its own between the rounds; then in with other weights.

    Threads are slow here: what is asked for while a chunk is being added has to wait.
    """
    swift = SegmentDecoder.feed

    def feed(decoder: SegmentDecoder, data: bytes) -> Iterator[tuple[int, Vector]]:
        for start, values in swift(decoder, data):
            time.sleep(0.01)
            yield start, values

    monkeypatch.setattr(SegmentDecoder, "feed", feed)

    async def scenario() -> None:
        one = upload(tmp_path, executor, first)
        sent = parts()
        for number, chunk in enumerate(sent):
            if number == 4:
                await one.detach()
            if number == 7:
                await one.attach(second, 9)
                await one.attach(second, 2)
            one.take(chunk)
            await one.room()
        assert await one.absorbed()
        one.keep()

    first, second = FedAvg(SIZE), FedAvg(SIZE)
    asyncio.run(scenario())
    assert not moved(first).any()
    assert moved(second).tobytes() == total_with(UPDATE, 2).tobytes()


@pytest.mark.parametrize(
    ("value", "error"), [(np.nan, CodecError), (np.inf, CodecError), (500.0, OutOfRangeError)]
)
def test_a_bad_segment_after_good_ones_fails_and_takes_them_with_it(
    tmp_path: Path, executor: ThreadPoolExecutor, value: float, error: type[Exception]
) -> None:
    async def scenario() -> None:
        one = upload(tmp_path, executor, total)
        with pytest.raises(error):
            for chunk in chunks([bad.tobytes()]):
                one.take(chunk)
                await one.room()
            await one.absorbed()
        with pytest.raises(error):
            await one.room()
        await one.discard()

    bad = UPDATE.copy()
    bad[3 * SEGMENT_VALUES + 9] = value
    total = FedAvg(SIZE)
    asyncio.run(scenario())
    assert not moved(total).any()


def test_a_full_disk_fails_the_update_and_nothing_else(
    tmp_path: Path, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        one = upload(tmp_path, executor, total)
        sent = parts()
        for chunk in sent[:5]:
            one.take(chunk)
        await one.absorbed()

        def full(data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(one._spool, "append", full)
        one.take(sent[5])
        with pytest.raises(OSError, match="No space left"):
            await one.absorbed()
        await one.discard()

    total = FedAvg(SIZE)
    asyncio.run(scenario())
    assert not moved(total).any()


def test_a_handler_that_is_cancelled_leaves_the_work_to_the_next(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    """Its connection broke while it waited for a thread; another connection brings the rest."""

    async def scenario() -> None:
        one = upload(tmp_path, executor, total)
        sent = parts()

        async def first_connection() -> None:
            for chunk in sent[:8]:
                one.take(chunk)
            await one.absorbed()

        handler = asyncio.ensure_future(first_connection())
        await asyncio.sleep(0)
        handler.cancel()
        await asyncio.wait([handler])
        for chunk in sent[8:]:
            one.take(chunk)
            await one.room()
        assert await one.absorbed()
        one.keep()

    total = FedAvg(SIZE)
    asyncio.run(scenario())
    assert moved(total).tobytes() == total_with(UPDATE, 3).tobytes()
