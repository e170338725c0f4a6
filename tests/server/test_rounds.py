"""Rounds under trouble: cut, slow, late and missing devices; and the same seed, the same adapter."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from raw_device import INITIAL, LAYOUT, PIECE, Device, Server, constant

from proto import codecs
from proto import federation_pb2 as pb


def test_a_device_cut_in_mid_upload_is_lost_after_its_grace_and_the_round_ends_without_it(
    start: Callable[..., Server],
) -> None:
    server = start("dev0,dev1", "--reconnect-grace", "0.5")
    with Device(server, "dev0") as dev0, Device(server, "dev1") as dev1:
        for device in (dev0, dev1):
            device.enter()
        for device in (dev0, dev1):
            device.next_round()
        dev0.upload_part_and_stall(constant(9), 3)
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        cut = time.monotonic()
        dev0.cut()
        assert dev1.finished()
        assert 0.4 < time.monotonic() - cut < 5
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "lost", "dev1": "finished"}]
    [lost] = server.events("client_lost")
    assert (lost["client"], lost["received"]) == ("dev0", 3 * PIECE)
    # Half an update moves nothing: not a value of dev0's nine is in the mean.
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 2, rtol=1e-6, atol=1e-6)


def test_a_device_back_within_its_grace_resumes_its_upload(start: Callable[..., Server]) -> None:
    """Same session, new connection: the round is pushed again, and the upload goes on at its offset."""
    server = start("dev0", "--reconnect-grace", "15")
    update = np.random.default_rng(0).standard_normal(LAYOUT.size, np.float32)
    with Device(server, "dev0") as before:
        before.enter()
        before.next_round()
        before.upload_part_and_stall(update, 6)
    with Device(server, "dev0", session=before.session) as after:
        time.sleep(0.3)  # as a client does
        after.enter()
        assert after.next_round()[1] == INITIAL.tobytes()
        assert after.held() == 6 * PIECE
        assert after.upload(update, offset=6 * PIECE).status == pb.STATUS_OK
        assert after.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "finished"}]
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + update, rtol=1e-6, atol=1e-6)


def test_a_new_process_starts_its_upload_afresh(start: Callable[..., Server]) -> None:
    """A device that was restarted has trained anew: no byte of its former life's update is in the mean."""
    server = start("dev0", "--reconnect-grace", "15")
    with Device(server, "dev0") as before:
        before.enter()
        before.next_round()
        before.upload_part_and_stall(constant(9), 6)
    with Device(server, "dev0") as after:
        while after.join().status == pb.STATUS_IDENTITY_IN_USE:
            time.sleep(0.02)
        after.enter()
        after.next_round()
        assert after.upload(constant(1)).status == pb.STATUS_OK
        assert after.finished()
    assert server.wait() == 0
    np.testing.assert_allclose(server.checkpoint(1), INITIAL + 1, rtol=1e-6, atol=1e-6)


def test_a_stale_stream_that_dies_after_the_reconnect_takes_nothing_with_it(
    start: Callable[..., Server],
) -> None:
    """On a wireless link the device often knows first: its new stream is up before the old one times out."""
    server = start("dev0,dev1", "--reconnect-grace", "0.5")
    with Device(server, "dev0") as old, Device(server, "dev1") as dev1:
        old.enter()
        with Device(server, "dev0", session=old.session) as new:
            new.enter()
            dev1.enter()
            new.next_round()
            dev1.next_round()
            old.cut()
            time.sleep(1)  # beyond the grace
            assert new.upload(constant(1)).status == pb.STATUS_OK
            assert dev1.upload(constant(3)).status == pb.STATUS_OK
            assert new.finished()
            assert dev1.finished()
    assert server.wait() == 0
    assert server.outcomes() == [{"dev0": "finished", "dev1": "finished"}]


def test_a_device_that_was_lost_takes_part_again_in_the_next_round(start: Callable[..., Server]) -> None:
    server = start("dev0,dev1", "--rounds", "2", "--reconnect-grace", "0.2")
    with Device(server, "dev1") as dev1:
        with Device(server, "dev0") as dev0:
            dev0.enter()
            dev1.enter()
            dev0.next_round()
            dev1.next_round()
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        with Device(server, "dev0", session=dev0.session) as back:
            while not server.outcomes():
                time.sleep(0.02)
            back.enter()
            # Round 2 was open already: it is pushed at once, with what round 1 made of the adapter.
            round_start, payload = back.next_round()
            assert round_start.round == 2
            np.testing.assert_allclose(np.frombuffer(payload, "<f4"), INITIAL + 2, rtol=1e-6, atol=1e-6)
            dev1.next_round()
            for device in (back, dev1):
                assert device.upload(constant(1), round_number=2).status == pb.STATUS_OK
            assert back.finished()
            assert dev1.finished()
    assert server.wait() == 0
    assert server.outcomes() == [
        {"dev0": "lost", "dev1": "finished"},
        {"dev0": "finished", "dev1": "finished"},
    ]


def test_after_the_deadline_an_update_is_late_and_the_round_has_closed(start: Callable[..., Server]) -> None:
    server = start("dev0,dev1", "--rounds", "2", "--deadline", "2")
    with Device(server, "dev0") as slow, Device(server, "dev1") as dev1:
        for device in (slow, dev1):
            device.enter()
        for device in (slow, dev1):
            device.next_round()
        assert dev1.upload(constant(2)).status == pb.STATUS_OK
        assert dev1.next_round()[0].round == 2  # two seconds later
        reply = slow.upload(constant(9))
        assert reply.status == pb.STATUS_LATE
        assert reply.reason == "round 1 closed without the update of 'dev0'"
        # It is not too late for round 2.
        assert slow.next_round()[0].round == 2
        for device in (slow, dev1):
            assert device.upload(constant(1), round_number=2).status == pb.STATUS_OK
        assert slow.finished()
        assert dev1.finished()
    assert server.wait() == 0
    assert server.outcomes() == [
        {"dev1": "finished", "dev0": "late"},
        {"dev0": "finished", "dev1": "finished"},
    ]
    np.testing.assert_allclose(server.checkpoint(2), INITIAL + 3, rtol=1e-6, atol=1e-6)


def test_an_upload_under_way_at_the_deadline_does_not_slip_into_the_next_round(
    start: Callable[..., Server],
) -> None:
    server = start("dev0", "--deadline", "1.5")
    with Device(server, "dev0") as slow:
        slow.enter()
        slow.next_round()
        slow.upload_part_and_stall(constant(9), 9)
        assert slow.finished()
    assert server.wait() == 1
    assert server.outcomes() == [{"dev0": "late"}]
    assert server.checkpoint(1).tobytes() == INITIAL.tobytes()


def test_the_same_seed_gives_the_same_adapters_whoever_finishes_first(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    """Three devices of unequal weight, two rounds, every checkpoint compared byte for byte."""
    rng = np.random.default_rng(0)
    codec = codecs.parse("int8")
    updates = {
        (name, number): codec.encode(rng.standard_normal(LAYOUT.size, np.float32), rng)
        for name in ("dev0", "dev1", "dev2")
        for number in (1, 2)
    }
    orders = {"a": ("dev0", "dev1", "dev2"), "b": ("dev2", "dev0", "dev1")}
    for folder, order in orders.items():
        server = start("dev0,dev1,dev2", "--rounds", "2", "--uplink-codec", "int8", folder=folder)
        devices = {name: Device(server, name) for name in order}
        for name, device in devices.items():
            device.enter(examples=7 + 13 * int(name[-1]))
        for number in (1, 2):
            for device in devices.values():
                device.next_round()
            for name in order:
                payload = updates[name, number]
                reply = devices[name].upload(payload, round_number=number, codec="int8")
                assert reply.status == pb.STATUS_OK
        assert all(device.finished() for device in devices.values())
        for device in devices.values():
            device.cut()
        assert server.wait() == 0
    for number in range(3):
        name = f"adapters/round-{number:04d}.safetensors"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_cohort_is_asked_and_the_others_are_left_alone(start: Callable[..., Server]) -> None:
    """Half of four devices a round: only they hear of it, and only their updates are taken."""
    server = start("dev0,dev1,dev2,dev3", "--cohort", "0.5", "--seed", "3")
    devices = {name: Device(server, name) for name in ("dev0", "dev1", "dev2", "dev3")}
    for device in devices.values():
        device.enter()
    while not (started := server.events("round_start")):
        time.sleep(0.02)
    cohort = started[0]["cohort"]
    assert isinstance(cohort, list)
    assert len(cohort) == 2
    for name in itertools.chain((n for n in devices if n not in cohort), cohort):
        expected = pb.STATUS_OK if name in cohort else pb.STATUS_WRONG_ROUND
        assert devices[name].upload(constant(1)).status == expected
    for name, device in devices.items():
        if name in cohort:
            device.next_round()
        assert device.finished()
        device.cut()
    assert server.wait() == 0
    assert server.outcomes() == [dict.fromkeys(cohort, "finished")]
