"""Central training at the server: data come up whole or not at all, the adapter goes down in the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from raw_device import FP32_BYTES, INITIAL, LAYOUT, PIECE, TIMEOUT_S, Device, Server, pieces

from proto import federation_pb2 as pb
from proto.adapter import save_adapter

DATA = np.random.default_rng(1).bytes(10 * PIECE + 17)
RAW = {"codec": "raw", "ask": pb.ASK_DATA}


@pytest.fixture
def central(start: Callable[..., Server], tmp_path: Path) -> Callable[..., Server]:
    """A server of central training for some devices."""

    def central(devices: str, *options: str) -> Server:
        where = ["--collected", str(tmp_path / "collected")]
        return start(devices, "--scheme", "central", *where, *options)

    return central


def collected(server: Server) -> dict[str, bytes]:
    """What lies in the folder, hidden files too."""
    return {path.name: path.read_bytes() for path in (server.folder.parent / "collected").iterdir()}


def train(trainer: Device, server: Server, number: int, value: float) -> None:
    """What the server's own trainer does in a round."""
    asked, payload = trainer.next_round()
    assert (asked.round, asked.ask, payload) == (number, pb.ASK_REPORT, b"")
    path = server.folder / "adapters" / f"round-{number:04d}.safetensors"
    save_adapter(path, LAYOUT, np.full(LAYOUT.size, value, np.float32))
    assert trainer.upload(b"", round_number=number, ask=pb.ASK_REPORT, loss=0.5).status == pb.STATUS_OK


def test_data_come_up_once_and_the_adapter_goes_down_in_the_end(central: Callable[..., Server]) -> None:
    server = central("dev0,dev1", "--rounds", "2", "--downlink-codec", "fp16")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1, Device(server, "trainer") as trainer:
        for device in (dev0, dev1, trainer):
            assert device.join().device_count == 2
            device.enter()
        for device, data in ((dev0, DATA), (dev1, DATA[:100])):
            asked, payload = device.next_round()
            assert (asked.round, asked.ask, asked.uplink_codec, payload) == (1, pb.ASK_DATA, "raw", b"")
            assert device.upload(data, **RAW).status == pb.STATUS_OK
            assert device.upload(data, **RAW).status == pb.STATUS_ALREADY_HELD  # Its reply was lost.
        train(trainer, server, 1, 1.0)
        assert collected(server) == {"dev0.data": DATA, "dev1.data": DATA[:100]}
        train(trainer, server, 2, 2.5)
        for device in (dev0, dev1):
            asked, payload = device.next_round()
            assert (asked.round, asked.ask) == (2, pb.ASK_ACCEPT)
            np.testing.assert_array_equal(np.frombuffer(payload, "<f2"), 2.5)
            assert device.upload(b"", round_number=2, ask=pb.ASK_ACCEPT).status == pb.STATUS_OK
        assert all(device.finished() for device in (dev0, dev1, trainer))
    assert server.wait() == 0
    everybody = dict.fromkeys(("dev0", "dev1", "trainer"), "finished")
    assert server.outcomes() == [everybody, everybody]
    assert server.checkpoint(0).tobytes() == INITIAL.tobytes()
    [first] = [event for event in server.events("upload_received") if event["client"] == "dev0"]
    assert (first["payload_bytes"], first["round"]) == (len(DATA), 1)


def test_an_upload_of_data_goes_on_where_it_was_cut(central: Callable[..., Server]) -> None:
    server = central("dev0", "--reconnect-grace", "15", "--no-delivery")
    with Device(server, "trainer") as trainer:
        trainer.enter()
        with Device(server, "dev0") as before:
            before.enter()
            before.next_round()
            stall = threading.Event()

            def parts() -> Iterator[pb.UploadPart]:
                yield before.header(len(DATA), **RAW)
                yield from pieces(DATA)[:4]
                stall.wait(TIMEOUT_S)

            call = before.stub.Upload.future(parts(), timeout=TIMEOUT_S)
            while before.held(ask=pb.ASK_DATA) < 4 * PIECE:
                time.sleep(0.02)
            assert "dev0.data" not in collected(server)
        stall.set()
        assert call.done() or call.cancel()
        with Device(server, "dev0", session=before.session) as after:
            time.sleep(0.3)
            after.enter()
            assert after.held(ask=pb.ASK_DATA) == 4 * PIECE
            damaged = pieces(DATA, 4 * PIECE)
            damaged[1].chunk.crc32 ^= 1
            reply = after.send([after.header(len(DATA), offset=4 * PIECE, **RAW), *damaged])
            assert (reply.status, reply.received) == (pb.STATUS_CORRUPT, 5 * PIECE)
            assert after.upload(DATA, offset=5 * PIECE, **RAW).status == pb.STATUS_OK
            train(trainer, server, 1, 1.0)
            assert collected(server) == {"dev0.data": DATA}
    assert server.wait() == 0


def test_too_much_is_refused_before_any_of_it_is_taken_and_nobody_left_ends_the_run(
    central: Callable[..., Server],
) -> None:
    server = central("dev0,dev1", "--data-limit", "1000", "--rounds", "3")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1, Device(server, "trainer") as trainer:
        for device in (dev0, dev1, trainer):
            device.enter()
        for device in (dev0, dev1):
            device.next_round()
        reply = dev0.send([dev0.header(1001, **RAW)])
        assert reply.status == pb.STATUS_TOO_LONG
        assert reply.reason == "1001 bytes announced, the server takes 1000 of a device"
        reply = dev1.upload(DATA[:900], codec="fp32", ask=pb.ASK_DATA)
        assert reply.status == pb.STATUS_WRONG_CODEC
        assert collected(server) == {}
        assert trainer.finished()
    assert server.wait() == 1
    assert "no device has sent its data" in server.complaint
    [outcomes] = server.outcomes()
    assert isinstance(outcomes, dict)
    assert [outcomes[name].partition(":")[0] for name in ("dev0", "dev1", "trainer")] == [
        "refused", "refused", "unfinished"
    ]  # fmt: skip


def test_more_than_the_disk_holds_is_refused(central: Callable[..., Server]) -> None:
    server = central("dev0", "--data-limit", str(2**60))
    with Device(server, "dev0") as dev0, Device(server, "trainer") as trainer:
        dev0.enter()
        trainer.enter()
        dev0.next_round()
        reply = dev0.send([dev0.header(2**59, **RAW)])
        assert reply.status == pb.STATUS_NO_SPACE
        assert "the server has room for" in reply.reason
        assert collected(server) == {}


def test_an_update_is_no_answer_to_a_question_for_data(central: Callable[..., Server]) -> None:
    """The same round, something else: neither side may take one for the other."""
    server = central("dev0")
    with Device(server, "dev0") as dev0, Device(server, "trainer") as trainer:
        dev0.enter()
        trainer.enter()
        dev0.next_round()
        assert dev0.upload(bytes(FP32_BYTES)).status == pb.STATUS_WRONG_ROUND
        assert trainer.upload(DATA, **RAW).status == pb.STATUS_WRONG_ROUND


def test_local_training_is_reported_and_nothing_more(start: Callable[..., Server]) -> None:
    server = start("dev0,dev1", "--scheme", "local", "--rounds", "2")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        for device in (dev0, dev1):
            device.enter()
        for number in (1, 2):
            for device in (dev0, dev1):
                asked, payload = device.next_round()
                assert (asked.round, asked.ask, payload) == (number, pb.ASK_REPORT, b"")
                assert asked.down_factors == ""
            report = {"round_number": number, "ask": pb.ASK_REPORT}
            assert dev0.upload(b"1234", **report).status == pb.STATUS_TOO_LONG
            assert dev1.upload(b"", **report, loss=0.25).status == pb.STATUS_OK
        assert dev1.finished()
    assert server.wait() == 0
    reports = server.events("upload_received")
    assert [(report["client"], report["payload_bytes"], report["loss"]) for report in reports] == [
        ("dev1", 0, 0.25)
    ] * 2
    assert [path.name for path in (server.folder / "adapters").iterdir()] == ["round-0000.safetensors"]
