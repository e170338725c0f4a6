"""What a server holds devices to where updates are private, and the mean in which each counts alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from raw_device import INITIAL, Device, Server, constant, pieces

from proto import federation_pb2 as pb

PRIVATE = ["--clip-norm", "2", "--noise-multiplier", "3", "--mean", "uniform", "--no-discordance"]


def send(device: Device, clip_norm: float, noise_std: float) -> pb.UploadReply:
    """An update that says so of itself."""
    header = device.header()
    header.header.clip_norm, header.header.noise_std = clip_norm, noise_std
    return device.send([header, *pieces(constant(1).tobytes())])


def test_an_update_that_is_not_said_to_be_private_does_not_count(start: Callable[..., Server]) -> None:
    server = start("dev0,dev1", "--seed", "9", *PRIVATE)
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        asked = dev0.join().privacy
        assert (asked.clip_norm, asked.noise_multiplier, asked.seed) == (2, 3, 9)
        dev0.enter()
        dev1.enter()
        begun, _ = dev0.next_round()
        dev1.next_round()
        assert begun.cohort == 2
        share = 3 * 2 / 2**0.5
        reply = send(dev1, 2, share / 2)
        assert reply.status == pb.STATUS_NOT_PRIVATE
        assert "clipped to 2 with noise of 2.12132, the run asks for 2 and 4.24264" in reply.reason
        assert send(dev0, 2, share).status == pb.STATUS_OK
        assert dev0.finished()
    assert server.wait() == 0
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 1, rtol=1e-6, atol=1e-6)
    [outcomes] = server.outcomes()
    assert outcomes["dev0"] == "finished" and outcomes["dev1"].startswith("refused: clipped to 2")


def test_in_a_uniform_mean_examples_do_not_count(start: Callable[..., Server]) -> None:
    server = start("dev0,dev1", "--mean", "uniform")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        assert not dev0.join().HasField("privacy")
        dev0.enter(examples=5)
        dev1.enter(examples=1)
        for device, value in ((dev0, 1.0), (dev1, -1.0)):
            device.next_round()
            assert device.upload(constant(value)).status == pb.STATUS_OK
        assert dev0.finished()
    assert server.wait() == 0
    np.testing.assert_allclose(server.checkpoint(1), INITIAL, rtol=1e-6, atol=1e-6)
    assert [event["weight"] for event in server.events("round_end")] == [2]
