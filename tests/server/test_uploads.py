"""An update on its way up: damaged ones are sent again, wrong ones are refused, and the round goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest
from raw_device import FP32_BYTES, INITIAL, LAYOUT, PIECE, Device, Server, constant, pieces

from proto import codecs
from proto import federation_pb2 as pb


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start("dev0")


@pytest.fixture
def device(server: Server) -> Iterator[Device]:
    """The only device of a server, in round 1."""
    with Device(server, "dev0") as device:
        device.enter()
        device.next_round()
        yield device


def assert_round_ends_with(server: Server, device: Device, value: float) -> None:
    """The server finishes, and the global adapter has moved by `value`."""
    assert device.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "finished"}]
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + value, rtol=1e-6, atol=1e-6)


def test_the_global_adapter_comes_down_exactly_and_the_update_moves_it(
    start: Callable[..., Server],
) -> None:
    """The whole conversation, as it should be; fp32 down and up, weights 1 and 3."""
    server = start("dev0,dev1", "--rounds", "2")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        dev0.enter(examples=1)
        dev1.enter(examples=3)
        expected = INITIAL
        for number in (1, 2):
            for device, value in ((dev0, 1.0), (dev1, 3.0)):
                round_start, payload = device.next_round()
                assert (round_start.round, round_start.uplink_codec) == (number, "fp32")
                assert payload == expected.astype("<f4").tobytes()
                reply = device.upload(constant(value), round_number=number)
                assert (reply.status, reply.received) == (pb.STATUS_OK, FP32_BYTES)
            expected = (expected.astype(np.float64) + 2.5).astype(np.float32)
        assert dev0.finished()
        assert dev1.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "finished", "dev1": "finished"}] * 2
    assert server.checkpoint(0).tobytes() == INITIAL.tobytes()
    assert server.checkpoint(2).tobytes() == expected.tobytes()


def test_a_corrupt_chunk_costs_only_itself(server: Server, device: Device) -> None:
    """The reply says how much the server holds, UploadStatus too, and the rest completes the update."""
    update = np.random.default_rng(0).standard_normal(LAYOUT.size, np.float32)
    payload = update.tobytes()
    parts = pieces(payload)
    parts[4].chunk.crc32 ^= 1
    reply = device.send([device.header(), *parts])
    assert reply.status == pb.STATUS_CORRUPT
    assert reply.received == device.held() == 4 * PIECE
    assert "checksum of the chunk at byte 16384" in reply.reason

    assert device.upload(payload, offset=reply.received).status == pb.STATUS_OK
    assert device.finished()
    assert server.wait() == 0
    expected = (INITIAL + update.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(server.checkpoint(1), expected, rtol=2e-7, atol=1e-10)


def test_a_stream_that_ends_early_is_resumed_where_it_stopped(server: Server, device: Device) -> None:
    payload = constant(1).tobytes()
    reply = device.send([device.header(), *pieces(payload)[:7]])
    assert (reply.status, reply.received) == (pb.STATUS_INCOMPLETE, 7 * PIECE)
    assert device.upload(payload, offset=7 * PIECE).status == pb.STATUS_OK
    assert_round_ends_with(server, device, 1)


def test_order_is_kept_and_duplicates_are_harmless(server: Server, device: Device) -> None:
    payload = constant(1).tobytes()
    parts = pieces(payload)
    swapped = [parts[0], parts[2], parts[1], *parts[3:]]
    reply = device.send([device.header(), *swapped])
    assert (reply.status, reply.received) == (pb.STATUS_CORRUPT, PIECE)
    assert "chunk at byte 8192, expected byte 4096" in reply.reason

    doubled = [part for part in parts for _ in range(2)]
    assert device.send([device.header(), *doubled]).status == pb.STATUS_OK
    assert_round_ends_with(server, device, 1)


def test_chunks_beyond_the_announced_end_are_refused(server: Server, device: Device) -> None:
    payload = constant(1).tobytes()
    reply = device.send([device.header(), *pieces(payload + b"more")])
    assert reply.status == pb.STATUS_CORRUPT
    assert f"of {FP32_BYTES}" in reply.reason
    assert device.upload(payload).status == pb.STATUS_OK
    assert_round_ends_with(server, device, 1)


def test_an_upload_without_a_header_is_refused(server: Server, device: Device) -> None:
    for parts in ([], pieces(constant(1).tobytes())):
        reply = device.send(parts)
        assert (reply.status, reply.reason) == (pb.STATUS_CORRUPT, "an upload starts with its header")
    assert device.upload(constant(1)).status == pb.STATUS_OK
    assert_round_ends_with(server, device, 1)


def test_an_update_for_another_round_or_run_is_refused_and_settles_nothing(
    server: Server, device: Device
) -> None:
    for number in (0, 2, 99):
        assert device.upload(constant(5), round_number=number).status == pb.STATUS_WRONG_ROUND
    assert device.send([device.header(run_id="run-6")]).status == pb.STATUS_WRONG_RUN
    assert device.upload(constant(1)).status == pb.STATUS_OK
    assert_round_ends_with(server, device, 1)


def test_a_terabyte_is_refused_before_memory_is_taken(server: Server, device: Device) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info()
    reply = device.send([device.header(payload_bytes=10**12)])
    assert reply.status == pb.STATUS_TOO_LONG
    assert reply.reason == "1000000000000 bytes announced, 10000 values make 40000"
    after = process.memory_info()
    assert after.vms - before.vms < 10**9  # not even reserved
    assert after.rss - before.rss < 20 * 10**6


@pytest.mark.parametrize(
    ("announced", "codec", "status"),
    [
        (FP32_BYTES + 1, "fp32", pb.STATUS_TOO_LONG),
        (FP32_BYTES // 2, "fp16", pb.STATUS_WRONG_CODEC),  # a fine codec, but not this round's
        (FP32_BYTES, "fp64", pb.STATUS_WRONG_CODEC),
    ],
)
def test_a_wrong_announcement_ends_the_clients_round_at_once(
    server: Server, device: Device, announced: int, codec: str, status: int
) -> None:
    """Sending it again would not help: the device is settled, and the round ends without its update."""
    reply = device.send([device.header(announced, codec=codec)])
    assert reply.status == status
    assert device.finished()
    assert server.wait() == 1  # a round without any update
    assert server.outcomes() == [{"dev0": f"refused: {reply.reason}"}]
    assert server.checkpoint(1).tobytes() == INITIAL.tobytes()


def test_an_update_that_no_codec_made_ends_the_clients_round(server: Server, device: Device) -> None:
    """Shorter than the layout, and complete by its own account."""
    assert device.upload(bytes(FP32_BYTES - 4)).status == pb.STATUS_CORRUPT
    assert device.finished()
    assert server.wait() == 1


@pytest.mark.parametrize("poison", [np.nan, np.inf, 128.0, -1e30])
def test_one_poisoned_value_is_refused_and_the_others_make_the_round(
    start: Callable[..., Server], poison: float
) -> None:
    """NaN and Inf are nothing that fp32's encode makes; 128 and beyond have diverged."""
    server = start("dev0,dev1")
    with Device(server, "dev0") as bad, Device(server, "dev1") as good:
        for device in (bad, good):
            device.enter()
        for device in (bad, good):
            device.next_round()
        update = constant(1)
        update[4321] = poison
        reply = bad.upload(update)
        assert reply.status in (pb.STATUS_NOT_FINITE, pb.STATUS_CORRUPT)
        assert bad.upload(constant(1)).status == pb.STATUS_WRONG_ROUND  # Its round is over.
        assert good.upload(constant(2)).status == pb.STATUS_OK
        assert bad.finished()
        assert good.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": f"refused: {reply.reason}", "dev1": "finished"}]
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 2, rtol=1e-6, atol=1e-6)


def test_an_update_counts_once_however_often_it_is_sent(start: Callable[..., Server]) -> None:
    """The device whose reply was lost sends all again; dev1 keeps the round open meanwhile."""
    server = start("dev0,dev1")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        for device in (dev0, dev1):
            device.enter()
        for device in (dev0, dev1):
            device.next_round()
        assert dev0.upload(constant(4)).status == pb.STATUS_OK
        assert dev0.upload(constant(4)).status != pb.STATUS_CORRUPT
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        assert dev0.finished()
        assert dev1.finished()
    assert server.wait() == 0
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 3, rtol=1e-6, atol=1e-6)


def test_int8_both_ways(start: Callable[..., Server]) -> None:
    """The round names the codecs, the bytes are the codec's own, and both ends decode the same."""
    server = start("dev0", "--uplink-codec", "int8", "--downlink-codec", "int8")
    codec = codecs.parse("int8")
    update = np.random.default_rng(0).standard_normal(LAYOUT.size, np.float32)
    payload = codec.encode(update, np.random.default_rng(0))
    with Device(server, "dev0") as device:
        device.enter()
        round_start, down = device.next_round()
        assert (round_start.downlink_codec, round_start.uplink_codec) == ("int8", "int8")
        assert not (round_start.error_feedback or round_start.keep or round_start.base_round)
        assert len(down) == codec.encoded_bytes(LAYOUT.size)
        np.testing.assert_allclose(codec.decode(down, LAYOUT.size), INITIAL, atol=1 / 250)
        assert device.upload(payload, codec="int8").status == pb.STATUS_OK
        assert device.finished()
    assert server.wait() == 0
    moved = codec.decode(payload, LAYOUT.size).astype(np.float64) + INITIAL
    np.testing.assert_allclose(server.checkpoint(1), moved, rtol=1e-6, atol=1e-9)
