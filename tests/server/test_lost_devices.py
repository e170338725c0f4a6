"""A device that dies, in each phase of a round: the others' round goes on, and what is told is the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from raw_device import FP32_BYTES, INITIAL, PIECE, Device, Server, constant, pieces

from proto import federation_pb2 as pb
from proto.adapter import AdapterLayout

LONG = AdapterLayout.of({"a": (2**22,)})  # 17 MB in fp32: more than loopback's buffers hold


def before_the_round(device: Device) -> None:
    """Its connection breaks, as a killed process's does."""


def in_training(device: Device) -> None:
    device.next_round()


def with_its_first_chunks_sent(device: Device) -> None:
    device.next_round()
    device.upload_part_and_stall(constant(9), 3)


def with_all_but_one_chunk_sent(device: Device) -> None:
    device.next_round()
    device.upload_part_and_stall(constant(9), FP32_BYTES // PIECE)


@pytest.mark.parametrize(
    ("phase", "received"),
    [
        (before_the_round, 0),
        (in_training, 0),
        (with_its_first_chunks_sent, 3 * PIECE),
        (with_all_but_one_chunk_sent, FP32_BYTES // PIECE * PIECE),
    ],
)
def test_a_device_that_dies_is_lost_and_the_round_goes_on(
    start: Callable[..., Server], phase: Callable[[Device], None], received: int
) -> None:
    server = start("dev0,dev1", "--reconnect-grace", "0.3")
    with Device(server, "dev1") as dev1:
        with Device(server, "dev0") as dev0:
            dev0.enter()
            dev1.enter()
            dev1.next_round()
            phase(dev0)
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        assert dev1.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "lost", "dev1": "finished"}]
    [lost] = server.events("client_lost")
    assert (lost["client"], lost["received"]) == ("dev0", received)
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 2, rtol=1e-6, atol=1e-6)


def test_a_device_that_dies_in_its_download_is_lost_and_the_round_goes_on(
    start: Callable[..., Server],
) -> None:
    server = start("dev0,dev1", "--reconnect-grace", "0.3", layout=LONG)
    with Device(server, "dev1") as dev1:
        with Device(server, "dev0") as dev0:
            for device in (dev0, dev1):
                device.enter(digest=LONG.digest)
            for _ in range(5):
                next(dev0.tasks)
            dev1.next_round()
        assert dev1.upload(bytes(4 * LONG.size)).status == pb.STATUS_OK
        assert dev1.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "lost", "dev1": "finished"}]


def test_a_device_that_dies_when_its_last_byte_is_sent_has_finished(start: Callable[..., Server]) -> None:
    """Nobody hears the reply, but the update is whole."""
    server = start("dev0,dev1", "--reconnect-grace", "0.3")
    with Device(server, "dev1") as dev1:
        with Device(server, "dev0") as dev0:
            dev0.enter()
            dev1.enter()
            dev0.next_round()
            dev1.next_round()
            assert dev0.send([dev0.header(), *pieces(constant(4).tobytes())]).status == pb.STATUS_OK
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        assert dev1.finished()
    assert server.wait() == 0
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 3, rtol=1e-6, atol=1e-6)
