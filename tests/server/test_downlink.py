"""Differences down: whoever gets its adapter by whichever payload holds the server's version, bit for bit."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_device import FP32_BYTES, LAYOUT, Server, constant
from raw_device import Device as RawDevice

from client.download import Download
from proto import codecs
from proto import federation_pb2 as pb
from proto.adapter import Vector
from proto.codecs.fp32 import Fp32
from proto.events import EventLog
from proto.payload import PayloadError, chunks
from proto.segments import SEGMENT_VALUES
from server.broadcast import Broadcast
from server.devices import Device, Registry
from server.downlink import Downlink, Payloads, parse_exact

SIZE = SEGMENT_VALUES + 1000
INT8 = codecs.parse("int8")
INT8_BYTES = INT8.encoded_bytes(LAYOUT.size)
SILENCE = EventLog(None, "test")


class Counting(Fp32):
    """fp32 that knows how many segments it has encoded."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        self.encoded += 1
        return super().encode(vector, rng)


@dataclass
class Place:
    """A device: what the server knows of it, and what it holds."""

    device: Device
    held: tuple[int, Vector] | None = None
    kinds: list[str] = field(default_factory=list)

    def start(self, number: int, broadcast: Broadcast) -> Download:
        base, self.held = self.held, None
        self.kinds.append(broadcast.kind)
        start = pb.RoundStart(
            round=number,
            downlink_codec=broadcast.codec.name,
            payload_bytes=broadcast.payload_bytes,
            payload_id=broadcast.id,
            base_round=broadcast.base_round,
        )
        known = base is not None and base[0] == broadcast.base_round
        return Download(start, SIZE, SILENCE, base[1] if base and known else None)

    async def play(self, number: int, payloads: Payloads, fate: str) -> Vector | None:
        """One round; the adapter it arrives at."""
        broadcast = payloads.choose(self.device, b"")
        download = self.start(number, broadcast)
        payload = b"".join([chunk.data async for chunk in broadcast.chunks(0)])
        if fate == "restarts":
            self.device.version = 0
            return await self.play(number, payloads, "uploads")
        half = len(payload) // 2
        feed(download, payload[:half], 0)
        if fate == "cut":
            return None
        assert payloads.choose(self.device, broadcast.id) is broadcast  # Connected again: it goes on.
        feed(download, payload[half:], half)
        adapter = download.take()
        self.held = number, adapter
        if fate == "uploads":
            self.device.version = number
        return adapter


def feed(download: Download, data: bytes, offset: int) -> None:
    for chunk in chunks([data], offset):
        download.add(pb.Instruction(chunk=chunk))


def downlink(folder: Path, pool: ThreadPoolExecutor, full: codecs.Codec) -> Downlink:
    return Downlink(INT8, full, SIZE, seed=1, folder=folder, executor=pool, events=SILENCE)


FATES = st.sampled_from(["uploads", "uploads", "uploads", "silent", "cut", "restarts", "absent"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(FATES, min_size=3, max_size=3), min_size=2, max_size=5))
def test_all_that_hold_an_adapter_hold_the_server_s_version_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[str]]
) -> None:
    """Whatever becomes of devices: present, absent, cut off, restarted, or of unknown fate."""
    rng = np.random.default_rng(0)
    adapter = rng.standard_normal(SIZE, np.float32)
    places = [Place(Device(f"dev{n}", n)) for n in range(3)]

    async def run() -> None:
        with ThreadPoolExecutor(2) as pool:
            down = downlink(tmp_path_factory.getbasetemp(), pool, Fp32())
            for number, fates in enumerate(rounds, 1):
                asked = [(p, fate) for p, fate in zip(places, fates, strict=True) if fate != "absent"]
                before = down.version.copy()
                payloads = down.open(number, adapter, [place.device for place, _ in asked])
                arrived = [await place.play(number, payloads, fate) for place, fate in asked]
                await payloads.encoded()
                assert {a.tobytes() for a in arrived if a is not None} <= {down.version.tobytes()}
                assert down.crc32 == (zlib.crc32(down.version) if down.version.any() else 0)
                if asked and number > 1:
                    # What int8 lost: half a step at most, and none of it is forgotten.
                    step = max(float(np.abs(adapter - before).max()) / 127 * 1.01, 1e-9)
                    assert np.abs(adapter - down.version).max() <= step
                adapter[:] += 0.01 * rng.standard_normal(SIZE, np.float32)

    asyncio.run(run())


def test_a_payload_is_made_only_if_somebody_needs_it(tmp_path: Path) -> None:
    """Everybody whole; everybody a difference; then one is absent and back."""
    adapter, full = np.ones(SIZE, np.float32), Counting()
    places = [Place(Device(name, n)) for n, name in enumerate(("dev0", "dev1"))]

    async def run() -> list[int]:
        counts = []
        with ThreadPoolExecutor(1) as pool:
            down = downlink(tmp_path, pool, full)
            for number, cohort in enumerate((places, places, places[:1], places), 1):
                payloads = down.open(number, adapter, [place.device for place in cohort])
                for place in cohort:
                    await place.play(number, payloads, "uploads")
                await payloads.encoded()
                counts.append(full.encoded)
                adapter[:] += 1
        return counts

    assert asyncio.run(run()) == [2, 2, 2, 4]  # of two segments each
    assert [place.kinds for place in places] == [
        ["full", "delta", "delta", "delta"],
        ["full", "delta", "full"],
    ]


def test_a_difference_to_what_a_device_does_not_hold_is_refused() -> None:
    start = pb.RoundStart(round=3, downlink_codec="int8", base_round=2)
    with pytest.raises(PayloadError, match="difference to the adapter of round 2, which is not held here"):
        Download(start, SIZE, SILENCE)


@pytest.mark.parametrize("codec", ["fp16", "int8"])
def test_a_codec_that_loses_a_bit_cannot_bring_a_version(codec: str) -> None:
    assert parse_exact("fp32").name == "fp32"
    with pytest.raises(codecs.CodecError, match=f"'{codec}' does not keep every bit"):
        parse_exact(codec)


def test_a_restarted_device_is_known_to_hold_nothing() -> None:
    registry = Registry("run-7", ["dev0"])
    registry.join("dev0", "first life").version = 3
    assert registry.join("dev0", "first life").version == 3
    assert registry.join("dev0", "second life").version == 0


def applied(held: Vector | None, start: pb.RoundStart, payload: bytes) -> Vector:
    """What a device of 10,000 values, one segment, makes of a payload."""
    values = codecs.parse(start.downlink_codec).decode(payload, LAYOUT.size)
    if not start.base_round:
        return values
    assert held is not None
    return held + values


def test_over_the_wire_two_of_three_devices_at_a_time(start: Callable[..., Server]) -> None:
    """Round 1: dev0, dev1; round 2: dev2, dev0; round 3: dev1, dev2, which is cut off in mid-download."""
    options = ["--rounds", "3", "--cohort", "0.6", "--selection", "round_robin", "--downlink-codec", "int8"]
    server = start("dev0,dev1,dev2", *options, "--full-codec", "fp32", "--error-feedback", "on")
    devices = {name: RawDevice(server, name) for name in ("dev0", "dev1", "dev2")}
    held: dict[str, Vector] = {}
    for device in devices.values():
        device.enter()
    for number, cohort in ((1, {"dev0": "full", "dev1": "full"}), (2, {"dev2": "full", "dev0": "delta"}),
                           (3, {"dev1": "full", "dev2": "delta"})):  # fmt: skip
        for name, kind in cohort.items():
            begin, payload = devices[name].next_round()
            assert (begin.round, begin.base_round) == (number, number - 1 if kind == "delta" else 0)
            assert begin.keep and begin.error_feedback
            assert len(payload) == (INT8_BYTES if kind == "delta" else FP32_BYTES)
            if (number, name) == (3, "dev2"):
                devices[name].listen(held_payload=begin.payload_id, held_bytes=5000)
                again, rest = devices[name].next_round()
                assert (again.payload_id, again.offset, again.base_round) == (begin.payload_id, 5000, 2)
                assert rest == payload[5000:]
            held[name] = applied(held.get(name), begin, payload)
        first, second = (held[name] for name in cohort)
        assert first.tobytes() == second.tobytes()
        for name in cohort:
            update = constant(number) + np.linspace(0, 0.1, LAYOUT.size, dtype=np.float32)
            crc = zlib.crc32(held[name])
            assert devices[name].upload(update, round_number=number, crc32=crc).status == pb.STATUS_OK
    assert all(device.finished() for device in devices.values())
    for device in devices.values():
        device.cut()
    assert server.wait() == 0, server.complaint
    kinds = [(event["round"], event["client"], event["kind"]) for event in server.events("download_start")]
    assert (2, "dev0", "delta") in kinds and (3, "dev1", "full") in kinds
    # Devices trained from what int8 made of it, half a step of a 127th away, not from the adapter itself.
    assert 0 < np.abs(held["dev1"] - server.checkpoint(2)).max() < 2.2 / 127


def test_an_update_from_another_version_is_refused_and_the_device_gets_it_whole(
    start: Callable[..., Server],
) -> None:
    """A device that has decoded a bit otherwise than the server: its round is over, its next begins right."""
    server = start("dev0,dev1", "--rounds", "2", "--full-codec", "fp32")
    with RawDevice(server, "dev0").enter() as good, RawDevice(server, "dev1").enter() as odd:
        crc = zlib.crc32(good.next_round()[1])
        odd.next_round()
        refused = odd.upload(constant(9), crc32=crc ^ 1)
        assert refused.status == pb.STATUS_WRONG_VERSION and f"{crc:08x}" in refused.reason
        assert good.upload(constant(1), crc32=crc).status == pb.STATUS_OK
        assert [device.next_round()[0].base_round for device in (good, odd)] == [1, 0]
    [first] = server.outcomes()
    assert isinstance(first, dict) and first["dev0"] == "finished" and first["dev1"].startswith("refused")
