"""Secure aggregation as the server does it: sums exact to the bit, whoever drops out and when; nothing else.

One server, six rounds of four devices of which three must survive. The devices are the real client's
participants behind bare stubs, so that each can be lost where a test wants it to be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from raw_device import INITIAL, LAYOUT, TIMEOUT_S, Device, Server

from client.participant import Participant
from proto import federation_pb2 as pb
from proto.adapter import Vector
from proto.codecs.ring import Ring, ring_bits
from proto.secagg.masked import Masked, MaskedEncoder

GRID = Ring(8, 0.5)
CODEC = Masked(GRID, ring_bits(GRID.bits, 4))
NAMES = ("dev0", "dev1", "dev2", "dev3")
EXAMPLES = dict(zip(NAMES, (3, 1, 2, 3), strict=True))
QUICK = ["--reconnect-grace", "0.5"]
OPTIONS = ["--secure-threshold", "0.6", "--no-discordance", "--uplink-codec", GRID.name]


class SecureDevice(Device):
    """One that does each stage when it is told to."""

    participant: Participant

    def advertise(self) -> None:
        wanted = next(self.tasks).keys_wanted
        assert (wanted.devices, wanted.threshold) == (4, 3)
        self.participant = Participant(wanted, "run-7")
        self.round = wanted.round
        mine = {"mask_key": self.participant.mask_key, "share_key": self.participant.share_key}
        self.ok(self.stub.AdvertiseKeys(pb.PublicKeys(key=self.key(self.round), **mine), timeout=TIMEOUT_S))

    def share(self) -> None:
        shares = self.participant.share(next(self.tasks).roster)
        self.ok(self.stub.ShareSecrets(pb.SealedShares(key=self.key(self.round), shares=shares)))

    def agree(self) -> pb.RoundStart:
        self.participant.receive(next(self.tasks).delivery)
        start, _ = self.next_round()
        assert (start.round, start.uplink_codec, start.ring_bits) == (self.round, GRID.name, CODEC.ring_bits)
        assert start.weight == EXAMPLES[self.name] / 3
        return start

    def payload(self, update: Vector) -> bytes:
        """Masked. The seed of its rounding is its name's number and the round."""
        masks = self.participant.masks(CODEC.ring_bits)
        weight = EXAMPLES[self.name] / 3
        seed = (int(self.name[-1]), self.round)
        encoder = MaskedEncoder(CODEC, update, seed, masks=masks, scale=weight, clipped={})
        return b"".join(encoder.pieces())

    def send_masked(self, update: Vector) -> pb.UploadReply:
        return self.upload(self.payload(update), round_number=self.round, codec=CODEC.name)

    def reveal(self) -> pb.StageReply:
        survivors = next(self.tasks).survivors
        seeds, keys = self.participant.reveal(survivors)
        return self.stub.Reveal(pb.RevealedShares(key=self.key(self.round), seeds=seeds, keys=keys))

    @staticmethod
    def ok(reply: pb.StageReply) -> None:
        assert reply.status == pb.STATUS_OK, reply


def plain_mean(updates: dict[str, Vector], number: int) -> np.ndarray:
    """What the quantised updates of these devices come to, added up in the open."""
    codes = [
        GRID.codes(updates[name], np.random.default_rng((int(name[-1]), number, 0)), EXAMPLES[name] / 3)
        for name in updates
    ]
    steps = np.sum(codes, axis=0, dtype=np.float64) - len(codes) * GRID.half
    return steps * (GRID.step * 3) / sum(EXAMPLES[name] for name in updates)


def test_the_sum_of_who_survives_is_exact_whoever_is_lost_in_which_stage(
    start: Callable[..., Server],
) -> None:
    server = start(",".join(NAMES), "--rounds", "7", *OPTIONS, *QUICK)
    devices = {name: SecureDevice(server, name) for name in NAMES}
    for name, device in devices.items():
        device.enter(examples=EXAMPLES[name])
    rng = np.random.default_rng(0)
    updates = {name: rng.normal(0, 0.1, LAYOUT.size).astype(np.float32) for name in NAMES}

    def lose(names: Sequence[str]) -> None:
        for name in names:
            devices.pop(name).cut()

    def play(*, keys: str = "", sharing: str = "", training: str = "", revealing: str = "") -> int:
        """A round in which some are lost: before which answer."""
        lose(keys.split())
        for device in devices.values():
            device.advertise()
        lose(sharing.split())
        for device in devices.values():
            device.share()
        for device in devices.values():
            device.agree()
        lose(training.split())
        for device in devices.values():
            assert device.send_masked(updates[device.name]).status == pb.STATUS_OK
        lose(revealing.split())
        number = next(iter(devices.values())).round
        if len(devices) + len(revealing.split()) >= 3:
            for device in devices.values():
                assert device.reveal().status in (pb.STATUS_OK, pb.STATUS_LATE)
        limit = time.monotonic() + TIMEOUT_S
        while not (server.folder / "adapters" / f"round-{number:04d}.safetensors").exists():
            assert time.monotonic() < limit
            time.sleep(0.01)
        for name in NAMES:
            if name not in devices:
                devices[name] = SecureDevice(server, name)
                while devices[name].join().status == pb.STATUS_IDENTITY_IN_USE:
                    time.sleep(0.01)
                devices[name].enter(examples=EXAMPLES[name])
        return number

    before = INITIAL
    cases: list[tuple[dict[str, str], Sequence[str]]] = [
        ({}, NAMES),
        ({"keys": "dev3"}, NAMES[:3]),
        ({"sharing": "dev0"}, NAMES[1:]),
        ({"training": "dev1"}, ("dev0", "dev2", "dev3")),
        ({"revealing": "dev2"}, NAMES),
        ({"training": "dev0 dev1"}, ()),
        ({}, NAMES),
    ]
    for lost, summed in cases:
        number = play(**lost)
        now = server.checkpoint(number)
        expected = before.copy()
        if summed:
            expected[:] = before + plain_mean({name: updates[name] for name in summed}, number)
        np.testing.assert_array_equal(now, expected, err_msg=f"round {number}, lost: {lost}")
        before = now
    for device in devices.values():
        assert device.finished()
        device.cut()
    assert server.wait() == 1  # One round had no update.
    outcomes = server.outcomes()
    reason = "aborted: 2 of 4 devices are left, the threshold is 3"
    assert outcomes[5] == {"dev0": "lost", "dev1": "lost", "dev2": reason, "dev3": reason}
    assert outcomes[3] == {"dev0": "finished", "dev1": "lost", "dev2": "finished", "dev3": "finished"}
    assert outcomes[4] == dict.fromkeys(NAMES, "finished")
    ends = [event["reason"] for event in server.events("unmask_end")]
    assert ends == ["", "", "", "", "", reason.removeprefix("aborted: "), ""]


def test_who_does_not_answer_is_late_and_too_few_who_do_are_told_why(start: Callable[..., Server]) -> None:
    """Round 1: dev3 never shares, and then two of three reveal nothing. Round 2: damaged shares."""
    server = start(",".join(NAMES), "--rounds", "2", "--stage-timeout", "0.7", *OPTIONS, *QUICK)
    devices = {name: SecureDevice(server, name) for name in NAMES}
    for name, device in devices.items():
        device.enter(examples=EXAMPLES[name])
    for device in devices.values():
        device.advertise()
    sharing = [devices[name] for name in NAMES[:3]]
    for device in sharing:
        device.share()
    for device in sharing:
        device.agree()
    late = devices["dev3"].stub.ShareSecrets(pb.SealedShares(key=devices["dev3"].key(1)))
    assert (late.status, late.reason) == (pb.STATUS_LATE, "round 1 takes no shares of 'dev3' any more")
    assert devices["dev3"].upload(bytes(12_500), codec=CODEC.name).status == pb.STATUS_LATE
    for device in sharing:
        assert device.send_masked(np.zeros(LAYOUT.size, np.float32)).status == pb.STATUS_OK
    assert sharing[0].reveal().status == pb.STATUS_OK
    next(devices["dev3"].tasks)  # The roster of round 1, which it had not read.
    for device in sharing[1:]:
        next(device.tasks)
    for device in devices.values():
        device.advertise()
    roster = next(devices["dev0"].tasks).roster
    shares = devices["dev0"].participant.share(roster)
    damaged = pb.SealedShares(key=devices["dev0"].key(2), shares=shares[:2])
    reply = devices["dev0"].stub.ShareSecrets(damaged)
    assert (reply.status, reply.reason) == (
        pb.STATUS_CORRUPT,
        "2 shares that are not those of the round's devices",
    )
    for device in devices.values():
        device.cut()
    server.wait()
    too_few = "aborted: 1 devices revealed their shares, the threshold is 3"
    assert server.outcomes()[0] == {**dict.fromkeys(NAMES[:3], too_few), "dev3": "late"}
    assert server.outcomes()[1]["dev0"].startswith("refused: 2 shares")
    np.testing.assert_array_equal(server.checkpoint(2), INITIAL)


def test_what_cannot_be_summed_under_masks_is_refused_in_one_line(start: Callable[..., Server]) -> None:
    server = start("dev0,dev1", "--secure-threshold", "0.6", "--uplink-codec", "int8")
    assert server.wait() == 2
    [line] = server.complaint.splitlines()
    assert line.startswith("server: secure_aggregation: uplink.codec=int8 cannot be summed under masks")
