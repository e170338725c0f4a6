"""Rounds that close before all have finished, what becomes of the stragglers, and downloads that were cut."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from raw_device import INITIAL, PIECE, Device, Server, constant

from proto import codecs
from proto import federation_pb2 as pb
from proto.adapter import AdapterLayout
from server.late import discounted

LONG = AdapterLayout.of({"a": (2**22,)})  # 17 MB in fp32: more than loopback's buffers hold


def test_a_round_closes_after_its_share_has_finished_and_a_grace_has_passed(
    start: Callable[..., Server],
) -> None:
    """Three of four, then 0.6 s; the fourth is in mid-upload and half of it is already in the sum."""
    server = start("dev0,dev1,dev2,dev3", "--close-after", "0.75", "--close-grace", "0.6")
    devices = [Device(server, f"dev{n}") for n in range(4)]
    for device in devices:
        device.enter()
    for device in devices:
        device.next_round()
    devices[3].upload_part_and_stall(constant(9), 5)
    for device in devices[:3]:
        assert not server.outcomes()
        assert device.upload(constant(2)).status == pb.STATUS_OK
    finished = time.monotonic()
    assert devices[0].finished()
    assert 0.5 < time.monotonic() - finished < 5
    for device in devices:
        device.cut()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "finished", "dev1": "finished", "dev2": "finished", "dev3": "late"}]
    [late] = server.events("client_late")
    assert (late["client"], late["received"]) == ("dev3", 5 * PIECE)
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 2, rtol=1e-6, atol=1e-6)


def test_a_straggler_is_told_as_soon_as_its_round_has_closed(start: Callable[..., Server]) -> None:
    """Though it sends nothing just then: it need not send the rest over a slow link to learn that."""
    server = start("dev0,dev1", "--rounds", "2", "--close-after", "0.5")
    with Device(server, "dev0") as slow, Device(server, "dev1") as dev1:
        for device in (slow, dev1):
            device.enter()
        for device in (slow, dev1):
            device.next_round()
        slow.upload_part_and_stall(constant(9), 5)
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        reply = slow.stalled_reply()
        assert (reply.status, reply.received) == (pb.STATUS_LATE, 5 * PIECE)
        assert reply.reason == "round 1 closed without the update of 'dev0'"


def test_a_late_update_counts_in_the_round_that_is_open_for_less(start: Callable[..., Server]) -> None:
    """(1 + 1)^-0.5 of 100 examples are 71; part of it came while its own round was open."""
    options = ("--rounds", "2", "--close-after", "0.5", "--staleness-exponent", "0.5")
    server = start("dev0,dev1", *options)
    with Device(server, "dev0") as slow, Device(server, "dev1") as dev1:
        for device in (slow, dev1):
            device.enter(examples=100)
        for device in (slow, dev1):
            device.next_round()
        release = slow.upload_part_and_stall(constant(9), 5)
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        assert dev1.next_round()[0].round == 2
        assert slow.held() == 5 * PIECE
        release.set()
        assert slow.stalled_reply().status == pb.STATUS_OK
        assert slow.upload(constant(9)).status == pb.STATUS_ALREADY_HELD
        assert dev1.upload(constant(1), round_number=2).status == pb.STATUS_OK
        assert dev1.finished()
    assert server.wait() == 0
    assert server.outcomes() == [
        {"dev1": "finished", "dev0": "late"},
        {"dev1": "finished", "dev0": "late"},
    ]
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 2, rtol=1e-6, atol=1e-6)
    mean = (100 * 1 + 71 * 9) / 171
    np.testing.assert_allclose(server.checkpoint(2), INITIAL + 2 + mean, rtol=1e-6, atol=1e-6)
    [used] = server.events("late_update_used")
    assert (used["round"], used["used_in"], used["staleness"], used["weight"]) == (1, 2, 1, 71)


@pytest.mark.parametrize(
    ("examples", "staleness", "exponent", "expected"),
    [(100, 0, 0.5, 100), (100, 3, 0.5, 50), (100, 1, 0.0, 100), (10, 4, 1.0, 2), (1, 8, 2.0, 1)],
)
def test_staleness_discounts_by_the_polynomial_in_whole_examples(
    examples: int, staleness: int, exponent: float, expected: int
) -> None:
    assert discounted(examples, staleness, exponent) == expected


@pytest.mark.parametrize("codec", ["fp32", "int8"])
def test_a_download_that_was_cut_goes_on_where_it_stopped(start: Callable[..., Server], codec: str) -> None:
    """The device says what it holds of which payload; one that holds all of it gets none of it again."""
    server = start("dev0", "--reconnect-grace", "15", "--downlink-codec", codec)
    whole = codecs.parse(codec).encode(INITIAL, np.random.default_rng(0))
    with Device(server, "dev0") as before:
        before.enter()
        first, payload = before.next_round()
        assert (first.offset, payload) == (0, whole)
    for held in (len(whole) // 3, len(whole)):
        with Device(server, "dev0", session=before.session) as after:
            after.join()
            after.register()
            after.listen(first.payload_id, held)
            again, rest = after.next_round()
            assert (again.payload_id, again.offset) == (first.payload_id, held)
            assert rest == whole[held:]
    with Device(server, "dev0", session=before.session) as liar:
        liar.join()
        liar.register()
        liar.listen(first.payload_id, 2**62)
        assert next(liar.tasks).round_start.offset == 2**62  # and nothing after it
    with Device(server, "dev0", session=before.session) as other:
        other.join()
        other.register()
        other.listen(b"another payload", 10_000)
        assert other.next_round() == (first, whole)


def test_a_download_ends_when_its_round_has_closed(start: Callable[..., Server]) -> None:
    """A slow device does not go on receiving the adapter of a round that nobody waits for."""
    server = start("dev0,dev1", "--rounds", "2", "--close-after", "0.5", layout=LONG)
    with Device(server, "dev0") as slow, Device(server, "dev1") as dev1:
        for device in (slow, dev1):
            device.enter(digest=LONG.digest)
        assert next(slow.tasks).WhichOneof("kind") == "round_start"
        dev1.next_round()
        update = bytes(4 * LONG.size)
        assert dev1.upload(update).status == pb.STATUS_OK
        dev1.next_round()
        received = 0
        for instruction in slow.tasks:
            if instruction.WhichOneof("kind") == "round_start":
                assert instruction.round_start.round == 2
                break
            received += len(instruction.chunk.data)
        assert 0 < received < 4 * LONG.size
