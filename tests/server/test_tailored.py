"""Merges are for good: each reaches every device exactly once, whatever happens to its connection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from raw_device import INITIAL, LAYOUT, PIECE, Device, Server

from proto import federation_pb2 as pb
from proto.exchange import exchange_of
from proto.lora import LoraLayout

LORA = LoraLayout(LAYOUT)
UPDATE = np.random.default_rng(0).standard_normal(LAYOUT.size, np.float32)


def rounds_of(server: Server, name: str, session: str, held: bytes, held_bytes: int, started: int) -> Device:
    """A device of this session with a new connection, and what it says it has."""
    device = Device(server, name, session)
    assert device.join().status == pb.STATUS_OK
    assert device.register().status == pb.STATUS_OK
    device.tasks = device.stub.Tasks(
        pb.TasksRequest(
            client_id=name,
            session=session,
            run_id="run-7",
            held_payload=held,
            held_bytes=held_bytes,
            started_round=started,
        ),
        timeout=60,
    )
    return device


def test_a_merge_comes_once_to_a_device_that_was_cut_and_whole_to_one_that_was_restarted(
    start: Callable[..., Server],
) -> None:
    server = start("dev0,dev1", "--method", "flora", "--rounds", "3", "--reconnect-grace", "20")
    dev1 = Device(server, "dev1").enter()
    dev0 = Device(server, "dev0").enter()
    for device in (dev0, dev1):
        first, payload = device.next_round()
        assert (first.merge_rank, payload, first.trained_factors) == (0, b"", "AB")
        assert device.upload(UPDATE).status == pb.STATUS_OK
    # Round 2 brings the stack of both, rank 8. dev0 is cut after a few chunks, and goes on there.
    second = next(dev0.tasks).round_start
    assert second.merge_rank == 8
    size = 4 * exchange_of(second).down_size(LORA)
    got = next(dev0.tasks).chunk.data
    dev0.cut()
    dev0 = rounds_of(server, "dev0", dev0.session, second.payload_id, len(got), started=1)
    again, rest = dev0.next_round()
    assert (again.payload_id, again.offset) == (second.payload_id, len(got))
    merge = got + rest
    assert len(merge) == size
    # It was cut once more, while it trained: nothing of the merge comes again.
    dev0.cut()
    dev0 = rounds_of(server, "dev0", dev0.session, second.payload_id, size, started=2)
    again = next(dev0.tasks).round_start
    assert (again.payload_id, again.offset) == (second.payload_id, size)
    assert dev0.upload(UPDATE, round_number=2).status == pb.STATUS_OK
    # dev1 is a new process: it has the base alone, and gets all there ever was.
    dev1.cut()
    with Device(server, "dev1") as restarted:
        while restarted.join().status == pb.STATUS_IDENTITY_IN_USE:
            pass
        restarted.enter()
        whole, payload = restarted.next_round()
        assert (whole.round, whole.merge_rank, payload) == (2, 8, merge)
        assert restarted.upload(UPDATE, round_number=2).status == pb.STATUS_OK
        # Round 3: only what round 2 made, for both of them.
        for device in (dev0, restarted):
            third, payload = device.next_round()
            assert third.merge_rank == 8
            assert payload != merge
            assert device.upload(UPDATE, round_number=3).status == pb.STATUS_OK
        assert restarted.finished()
    assert dev0.finished()
    dev0.cut()
    assert server.wait() == 0
    assert server.checkpoint(3).size == 3 * 2 * LAYOUT.size


def test_an_initial_adapter_that_no_seed_gives_goes_down_whole_once(start: Callable[..., Server]) -> None:
    """FFA-LoRA: A is not this seed's, so it has to come; from then on B does."""
    server = start("dev0", "--method", "ffa", "--rounds", "2", "--downlink-codec", "fp16")
    change = LORA.take(UPDATE, "B")
    with Device(server, "dev0").enter() as dev0:
        first, payload = dev0.next_round()
        assert (first.down_factors, first.downlink_codec) == ("AB", "fp32")  # A is to be exact: it stays.
        assert payload == INITIAL.tobytes()
        assert dev0.upload(change).status == pb.STATUS_OK
        second, payload = dev0.next_round()
        assert (second.down_factors, second.downlink_codec) == ("B", "fp16")
        expected = LORA.take(INITIAL, "B") + change
        np.testing.assert_allclose(np.frombuffer(payload, "<f2"), expected, rtol=1e-3)
        too_long = dev0.send([dev0.header(4 * LAYOUT.size, round_number=2)])
        assert too_long.status == pb.STATUS_TOO_LONG
    assert 4 * change.size > PIECE
