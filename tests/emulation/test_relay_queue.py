"""CoDel against RFC 8289's own pseudo-code, in virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.link import FRAME_BYTES
from tests.emulation.virtual import carried, path

TARGET, INTERVAL = 5_000_000, 100_000_000


class Codel:
    """RFC 8289, sections 5.3 to 5.5, name by name; times in nanoseconds."""

    def __init__(self) -> None:
        self.packets: list[tuple[int, int, int]] = []  # number, tstamp, length
        self.dropping = False
        self.first_above_time = self.drop_next = self.count = self.lastcount = 0
        self.dropped: list[tuple[int, int]] = []  # when, number

    def control_law(self, t: int, count: int) -> int:
        return t + int(INTERVAL / math.sqrt(count))

    def dodequeue(self, now: int) -> tuple[tuple[int, int, int] | None, bool]:
        if not self.packets:
            self.first_above_time = 0
            return None, False
        packet = self.packets.pop(0)
        ok_to_drop = False
        if now - packet[1] < TARGET or sum(length for *_, length in self.packets) <= FRAME_BYTES:
            self.first_above_time = 0
        elif self.first_above_time == 0:
            self.first_above_time = now + INTERVAL
        elif now >= self.first_above_time:
            ok_to_drop = True
        return packet, ok_to_drop

    def deque(self, now: int) -> tuple[int, int, int] | None:
        packet, ok_to_drop = self.dodequeue(now)
        if self.dropping:
            if not ok_to_drop:
                self.dropping = False
            while now >= self.drop_next and self.dropping:
                self.drop(now, packet)
                self.count += 1
                packet, ok_to_drop = self.dodequeue(now)
                if not ok_to_drop:
                    self.dropping = False
                else:
                    self.drop_next = self.control_law(self.drop_next, self.count)
        elif ok_to_drop:
            self.drop(now, packet)
            packet, ok_to_drop = self.dodequeue(now)
            self.dropping = True
            delta = self.count - self.lastcount
            self.count = 1
            if delta > 1 and now - self.drop_next < 16 * INTERVAL:
                self.count = delta
            self.drop_next = self.control_law(now, self.count)
            self.lastcount = self.count
        return packet

    def drop(self, now: int, packet: tuple[int, int, int] | None) -> None:
        assert packet is not None
        self.dropped.append((now, packet[0]))


def reference(rate_bps: int, frames: list[tuple[int, int]]) -> list[tuple[int, int, str]]:
    """(when, frame number, fate) of a link that takes its frames from that queue."""
    codel, sent, free = Codel(), [], 0

    def serve(until: float) -> None:
        nonlocal free
        while codel.packets and free <= until:
            packet = codel.deque(free)
            assert packet is not None
            free += 8 * packet[2] * 10**9 // rate_bps
            sent.append((free, packet[0], "out"))

    for number, (now, length) in enumerate(frames):
        serve(now)
        if not codel.packets and free <= now:
            free = now
        codel.packets.append((number, now, length))
        serve(now)
    serve(math.inf)
    return sorted(sent + [(when, number, "aqm") for when, number in codel.dropped])


@given(
    st.sampled_from([1_000_000, 8_000_000, 20_000_000]),
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(0, 30), st.integers(200, FRAME_BYTES), st.integers(0, 900)),
        min_size=1,
        max_size=12,
    ),
)
def test_codel_drops_what_the_rfc_drops_when_it_drops_it(
    rate_bps: int, trains: list[tuple[int, int, int, int]]
) -> None:
    now, frames = 0, []
    for count, gap_ms, length, pause_ms in trains:  # Trains of frames: above the rate, below it, silence.
        for _ in range(count):
            now += gap_ms * 250_000
            frames.append((now, length))
        now += pause_ms * 1_000_000
    endings = carried(path(rate_bps, codel=1, queue_bytes=10**9), frames)
    assert sorted((when, frame, fate) for when, _, frame, fate, _ in endings) == reference(rate_bps, frames)


@pytest.mark.parametrize("load", [1.02, 1.3, 4.0])
def test_codel_follows_the_rfc_through_long_overload_and_back_into_it(load: float) -> None:
    # 2 s of overload, so long that several frames are dropped in a row, and rests of 0.3 to 1.2 s.
    frames, now = [], 0.0
    for burst in range(12):
        for _ in range(round(2000 * load / 12)):
            now += 12e6 / load
            frames.append((round(now), 1500))
        now += (300 + 100 * (burst % 10)) * 1e6
    endings = carried(path(1_000_000, codel=1, queue_bytes=10**9), frames)
    assert sorted((when, frame, fate) for when, _, frame, fate, _ in endings) == reference(1_000_000, frames)


def test_codel_holds_a_greedy_flow_near_its_target_where_tail_drop_fills_the_queue() -> None:
    # 2 % more than 10 Mbit/s carry, for 40 s.
    frames = [(i * 1_180_000, 1500) for i in range(34_000)]
    waits = {}
    for codel in (0, 1):
        endings = carried(path(10e6, codel=codel, queue_bytes=100 * 1500), frames)
        out = [when - frames[frame][0] for when, _, frame, fate, _ in endings if fate == "out"]
        waits[codel] = sorted(out[len(out) // 2 :])[len(out) // 4]
        assert any(fate == "aqm" for *_, fate, _ in endings) == bool(codel)
    assert waits[0] > 115_000_000
    assert waits[1] < 30_000_000


@pytest.mark.parametrize("codel", [0, 1])
def test_codel_never_drops_the_last_frame(codel: int) -> None:
    server = path(1e4, codel=codel)  # 1.2 s a frame: every sojourn is above the target.
    fates = [fate for *_, fate, _ in carried(server, [(i * 1_000_000_000, FRAME_BYTES) for i in range(20)])]
    assert fates.count("out") >= 16 and fates[-1] == "out"
