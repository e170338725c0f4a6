"""Who gets in: the run's own devices, once each, with the server's layout. Everyone else is told why."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np
import pytest
from raw_device import INITIAL, LAYOUT, Device, Server, constant

from proto import federation_pb2 as pb
from proto.adapter import AdapterLayout


def test_strangers_are_refused_with_a_reason_and_the_run_goes_on(start: Callable[..., Server]) -> None:
    """One server meets everything that can be wrong with a device before its first round."""
    server = start("dev0,dev1", "--task", '{"trainer": "mine"}')
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        joined = dev1.join()
        assert (joined.run_id, joined.task_json) == ("run-7", '{"trainer": "mine"}')
        assert (joined.device_index, joined.device_count) == (1, 2)

        with Device(server, "phone") as stranger:
            reply = stranger.join()
            assert reply.status == pb.STATUS_UNKNOWN_CLIENT
            assert reply.reason == "no device 'phone' in this run (devices: dev0, dev1)"

        # A device of the run that has not joined, or of another run.
        assert dev0.register().status == pb.STATUS_UNKNOWN_CLIENT
        reply = dev1.register(run_id="run-6")
        assert reply.status == pb.STATUS_WRONG_RUN
        assert "run-6" in reply.reason
        assert "run-7" in reply.reason

        # An adapter of another rank.
        other = AdapterLayout.of({"a.lora_A.weight": (8, 1250), "a.lora_B.weight": (1250, 8)})
        reply = dev1.register(digest=other.digest)
        assert reply.status == pb.STATUS_WRONG_LAYOUT
        assert other.digest.hex()[:12] in reply.reason
        assert LAYOUT.digest.hex()[:12] in reply.reason
        assert "10000 values" in reply.reason

        # A weight that FedAvg cannot carry.
        for examples in (0, 2**20 + 1, 2**64 - 1):
            assert dev1.register(examples=examples).status == pb.STATUS_NOT_FINITE

        # No tasks before the layout is agreed.
        dev1.listen()
        with pytest.raises(grpc.RpcError) as refused:
            next(dev1.tasks)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "has not registered" in refused.value.details()

        dev0.enter()
        dev1.enter()
        for device in (dev0, dev1):
            device.next_round()
            assert device.upload(constant(1)).status == pb.STATUS_OK
        assert dev0.finished()
        assert dev1.finished()
    assert server.wait() == 0
    statuses = [event["status"] for event in server.events("refused")]
    assert statuses[:4] == [
        "STATUS_UNKNOWN_CLIENT",
        "STATUS_UNKNOWN_CLIENT",
        "STATUS_WRONG_RUN",
        "STATUS_WRONG_LAYOUT",
    ]


def test_one_name_is_one_live_session(start: Callable[..., Server]) -> None:
    """A second process with the same name waits until the first is gone, then takes its place."""
    server = start("dev0", "--reconnect-grace", "20")
    with Device(server, "dev0") as first, Device(server, "dev0") as second:
        first.enter()
        first.next_round()
        reply = second.join()
        assert reply.status == pb.STATUS_IDENTITY_IN_USE
        assert reply.reason == "another live session is 'dev0'"

        # Nor can it speak for the first, whose round goes on unharmed.
        assert second.upload(constant(9)).status == pb.STATUS_UNKNOWN_CLIENT
        assert first.held() == 0

        first.cut()
        while second.join().status == pb.STATUS_IDENTITY_IN_USE:
            pass  # The server sees the cut within a moment.
        second.enter()
        second.next_round()
        assert second.upload(constant(1)).status == pb.STATUS_OK
        assert second.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "finished"}]
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 1, rtol=1e-6, atol=1e-6)


def test_a_session_may_join_and_register_twice(start: Callable[..., Server]) -> None:
    """Retried messages are idempotent: the last registration counts, and the device is one device."""
    server = start("dev0,dev1")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        dev0.enter(examples=5)
        dev1.enter(examples=1)
        for device in (dev0, dev1):
            device.next_round()
        assert dev0.join().status == pb.STATUS_OK
        assert dev0.register(examples=3).status == pb.STATUS_OK
        assert dev0.upload(constant(1)).status == pb.STATUS_OK
        assert dev1.upload(constant(-1)).status == pb.STATUS_OK
        assert dev0.finished()
    assert server.wait() == 0
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 0.5, rtol=1e-6, atol=1e-6)
