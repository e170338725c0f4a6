"""Queue, server, trace and changes in virtual time: exact, in order, conserving, and deaf to lateness."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.link import FRAME_BYTES
from tests.emulation.virtual import END, carried, on_time, path, paths

RATES = st.sampled_from([64_000, 1_000_000, 4_999_999, 20_000_000, 33_333_333, 100_000_000])
GAPS = st.integers(0, 20_000_000)
LENGTHS = st.integers(42, FRAME_BYTES)
FRAMES = st.lists(st.tuples(GAPS, LENGTHS), min_size=1, max_size=120)
"""(nanoseconds since the frame before, bytes)."""
CHANGES = st.lists(st.tuples(GAPS, st.one_of(RATES, st.booleans())), max_size=20)
"""(nanoseconds since the change before, the new rate, or whether the link is up)."""


class Reference:
    """A link in exact fractions of a nanosecond, from the history of its rate alone (0: it is down)."""

    def __init__(
        self, rates: list[tuple[int, int]], delay_ns: int, queue_bytes: int, queue_frames: int
    ) -> None:
        self.rates = rates  # (from when, bit/s)
        self.delay, self.queue_bytes, self.queue_frames = delay_ns, queue_bytes, queue_frames
        self.finish = Fraction(0)
        self.starts: list[tuple[Fraction, int]] = []

    def _send(self, begin: Fraction, bits: int) -> tuple[Fraction, Fraction]:
        """When a frame gets the link that is free from `begin` on, and when its last bit is sent."""
        start, left = None, Fraction(bits)
        for (since, rate), (until, _) in itertools.pairwise([*self.rates, (END, 0)]):
            low = max(begin, Fraction(since))
            if rate == 0 or low >= until:
                continue
            start = low if start is None else start
            took = left * 10**9 / rate
            if low + took <= until:
                return start, low + took
            left -= (until - low) * Fraction(rate, 10**9)
        return (Fraction(END) if start is None else start), Fraction(END)

    def offer(self, now: int, length: int) -> Fraction | None:
        waiting = [size for start, size in self.starts if math.floor(start) > now]
        start, finish = self._send(max(Fraction(now), self.finish), 8 * length)
        if sum(waiting) + length > self.queue_bytes or len(waiting) >= self.queue_frames:
            return None
        self.starts.append((start, length))
        self.finish = finish
        return finish + self.delay


@given(RATES, CHANGES, st.integers(0, 50_000_000), st.integers(FRAME_BYTES, 20 * FRAME_BYTES), FRAMES)
def test_releases_and_tail_drops_are_exact_through_changes_of_rate_and_outages(
    rate: int,
    changes: list[tuple[int, int | bool]],
    delay_ns: int,
    queue: int,
    frames: list[tuple[int, int]],
) -> None:
    up, now, history = True, 500_000, [(0, rate)]
    steps = []
    for gap, value in changes:
        now += gap
        if isinstance(value, bool):
            up = value
        else:
            rate = value
        history.append((now, rate if up else 0))
        steps.append((now, value))
    history.append((now + 1, rate))  # Up in the end, so that everything comes out.
    steps.append((now + 1, True))

    reference = Reference(history, delay_ns, queue, 10)
    server = path(history[0][1], delay_s=delay_ns * 1e-9, queue_bytes=queue, queue_frames=10)
    now, expected = 1_000_000, []
    for gap, length in frames:
        now += gap
        while steps and steps[0][0] <= now:
            _change(server, *steps.pop(0))
        expected.append(reference.offer(now, length))
        server.offer(0, now, length)
    for step in steps:
        _change(server, *step)
    endings = sorted(server.advance(END), key=lambda ending: ending[2])
    assert len(endings) == len(frames)
    for exact, (when, _, _, fate, _) in zip(expected, endings, strict=True):
        assert fate == ("queue" if exact is None else "out")
        assert exact is None or abs(when - exact) <= 1


def _change(server, when: int, value: int | bool) -> None:
    if isinstance(value, bool):
        server.change(0, when, up=value)
    else:
        server.change(0, when, rate_bps=value)


SPECS = st.fixed_dictionaries(
    {
        "rate_bps": RATES,
        "delay_s": st.floats(0, 0.03),
        "jitter_s": st.sampled_from([0.0, 0.001, 0.02]),
        "loss": st.sampled_from([0.0, 0.1, 0.4]),
        "loss_burst": st.sampled_from([1.0, 3.0]),
        "duplicate": st.sampled_from([0.0, 0.3]),
        "corrupt": st.sampled_from([0.0, 0.3]),
        "queue_bytes": st.integers(FRAME_BYTES, 12 * FRAME_BYTES),
        "queue_frames": st.integers(1, 20),
        "codel": st.sampled_from([0, 1]),
        "mean_up_s": st.sampled_from([0.0, 0.05]),
        "mean_down_s": st.just(0.02),
        "seed": st.integers(0, 2**64 - 1),
    }
)
OFFERS = st.lists(st.tuples(st.sampled_from([0, 1_000, 7_777_777]), LENGTHS, st.integers(0, 2)), max_size=150)


@given(st.lists(SPECS, min_size=1, max_size=3), st.sampled_from(["round_robin", "proportional_fair"]), OFFERS)
def test_order_is_kept_frames_are_conserved_and_lateness_changes_nothing(
    specs: list[dict[str, float]], scheduler: str, offers: list[tuple[int, int, int]]
) -> None:
    late, punctual = paths(specs, scheduler), paths(specs, scheduler)
    now, told, of = 0, [], {}
    for gap, length, number in offers:
        now += gap
        frame = late.offer(number % len(specs), now, length)
        of[frame] = number % len(specs)
        told += on_time(punctual, now)
        punctual.offer(number % len(specs), now, length)
    end = now + 30_000_000_000
    endings = late.advance(end)
    told += on_time(punctual, end)
    assert sorted(told) == endings, "a schedule must not depend on when it is looked at"

    fates = [(frame, fate) for _, _, frame, fate, _ in endings if fate != "copy"]
    assert sorted(frame for frame, _ in fates) == sorted(of), "each frame ends once"
    copies = {frame for _, _, frame, fate, _ in endings if fate == "copy"}
    assert copies <= {frame for frame, fate in fates if fate == "out"}
    for number, spec in enumerate(specs):
        out = [(when, frame) for when, at, frame, fate, _ in endings if at == number and fate == "out"]
        assert [frame for _, frame in out] == sorted(frame for _, frame in out), "order is kept"
        kinds = {fate for _, at, _, fate, _ in endings if at == number}
        assert "loss" not in kinds or spec["loss"] > 0
        assert "aqm" not in kinds or spec["codel"]
        assert "copy" not in kinds or spec["duplicate"] > 0


def test_a_burst_drops_exactly_what_exceeds_service_and_queue() -> None:
    server = path(10e6, queue_bytes=10 * FRAME_BYTES)
    frame_ns = round(8e9 * FRAME_BYTES / 10e6)
    for _ in range(20):
        server.offer(0, 0, FRAME_BYTES)
    assert server.waiting(0, 0) == 10 * FRAME_BYTES
    server.offer(0, frame_ns, FRAME_BYTES)  # The second frame got the link: room for one.
    server.offer(0, frame_ns, 42)
    endings = sorted(server.advance(END), key=lambda ending: ending[2])
    fates = [fate for *_, fate, _ in endings]
    assert fates == ["out"] * 11 + ["queue"] * 9 + ["out", "queue"]
    assert [when for when, *_ in endings[:11]] == [frame_ns * (i + 1) for i in range(11)]


def test_a_queue_is_limited_in_frames_too() -> None:
    fates = [fate for *_, fate, _ in carried(path(1e6, queue_frames=3), [(0, 100)] * 6)]
    assert fates == ["out"] * 4 + ["queue"] * 2


def test_a_frame_on_the_delay_line_does_not_wait() -> None:
    frame_ns = round(8e9 * FRAME_BYTES / 10e6) + 1
    server = path(10e6, delay_s=10.0, queue_bytes=FRAME_BYTES)
    assert {e[3] for e in carried(server, [(i * frame_ns, FRAME_BYTES) for i in range(1000)])} == {"out"}


def test_a_saturated_path_keeps_its_rate_to_the_nanosecond() -> None:
    rate, frames = 7_654_321, 100_000
    endings = carried(path(rate, queue_bytes=frames * FRAME_BYTES), [(0, FRAME_BYTES)] * frames)
    assert abs(endings[-1][0] - Fraction(8 * FRAME_BYTES * 10**9 * frames, rate)) <= 1


def test_the_worked_example_of_relay_core_h() -> None:
    server = path(1e6, delay_s=0.02)
    server.offer(0, 0, 1250)
    server.offer(0, 0, 1250)
    server.change(0, 4_000_000, rate_bps=0.5e6)
    assert [when for when, *_ in server.advance(END)] == [36_000_000, 56_000_000]


def test_a_new_delay_is_for_frames_that_leave_the_queue_after_it_and_order_is_kept() -> None:
    server = path(1e6, delay_s=0.1)
    for _ in range(3):
        server.offer(0, 0, 1250)  # Sent at 10, 20 and 30 ms.
    server.change(0, 15_000_000, delay_s=0.01)
    assert [when for when, *_ in server.advance(110_000_000)] == [110_000_000] * 3
    server.offer(0, 200_000_000, 1250)
    assert [when for when, *_ in server.advance(END)] == [220_000_000]


def test_outages_are_exponential_and_take_their_share_of_the_time() -> None:
    # 1000 frames a second of 1 us each: a frame waits exactly until its outage ends.
    server = path(1e9, mean_up_s=0.3, mean_down_s=0.1, queue_bytes=10**9, seed=5)
    endings = carried(server, [(i * 1_000_000, 125) for i in range(1_000_000)])
    waits = [when - i * 1_000_000 > 2_000 for i, (when, *_) in enumerate(endings)]
    outages = [len(list(group)) for down, group in itertools.groupby(waits) if down]
    assert sum(waits) / len(waits) == pytest.approx(0.25, abs=0.02)
    assert sum(outages) / len(outages) == pytest.approx(100, rel=0.08)
    long = sum(length > 200 for length in outages) / len(outages)
    assert long == pytest.approx(math.exp(-2), abs=0.03)
    assert len({when for (when, *_), wait in zip(endings, waits, strict=True) if wait}) > len(outages)


def test_two_reasons_to_be_down_both_have_to_pass() -> None:
    server = path(1e9, mean_up_s=1e6, mean_down_s=1e6)
    server.change(0, 10, up=0)
    server.change(0, 20, up=0)
    server.offer(0, 30, 125)
    assert server.advance(1_000_000) == [] and server.waiting(0, 1_000_000) == 125
    server.change(0, 2_000_000, up=1)
    assert [when for when, *_ in server.advance(3_000_000)] == [2_001_000]


class Mahimahi:
    """LinkQueue::rationalize of Mahimahi's src/frontend/link_queue.cc, packet by packet, in ms."""

    PACKET_SIZE = FRAME_BYTES

    def __init__(self, schedule: list[int]) -> None:
        self.schedule, self.next_delivery, self.base = schedule, 0, 0
        self.queue: list[tuple[int, int]] = []  # number, bytes
        self.in_transit: tuple[int, int] | None = None
        self.output: list[tuple[int, int]] = []  # when, number

    def rationalize(self, now: int) -> None:
        while (this := self.schedule[self.next_delivery] + self.base) <= now:
            left = self.PACKET_SIZE
            self.next_delivery = (self.next_delivery + 1) % len(self.schedule)
            if self.next_delivery == 0:
                self.base += self.schedule[-1]
            while left > 0:
                if self.in_transit is None:
                    if not self.queue:
                        break
                    self.in_transit = self.queue.pop(0)
                number, size = self.in_transit
                amount = min(left, size)
                left, size = left - amount, size - amount
                self.in_transit = (number, size) if size else None
                if not size:
                    self.output.append((this, number))


TRACES = st.lists(st.integers(0, 12), min_size=1, max_size=12).map(sorted).filter(lambda trace: trace[-1] > 0)


@given(TRACES, st.lists(st.tuples(st.integers(0, 40), st.integers(42, 3000)), min_size=1, max_size=60))
def test_a_trace_delivers_as_mahimahi_does(trace: list[int], frames: list[tuple[int, int]]) -> None:
    reference, now, offers = Mahimahi(trace), 0, []
    for number, (gap, length) in enumerate(frames):
        now += gap
        offers.append((now * 1_000_000, length))
        reference.rationalize(now)
        reference.queue.append((number, length))
    reference.rationalize(now + 100_000)
    endings = carried(path(trace_ms=trace, queue_bytes=10**9), offers)
    assert [(when, frame) for when, _, frame, _, _ in endings] == [
        (when * 1_000_000, number) for when, number in reference.output
    ]


def test_a_trace_wastes_what_comes_while_the_link_is_down() -> None:
    server = path(trace_ms=[10], queue_bytes=10**6)
    server.change(0, 1_000_000, up=0)
    for _ in range(3):
        server.offer(0, 2_000_000, FRAME_BYTES)
    server.change(0, 35_000_000, up=1)
    assert [when // 1_000_000 for when, *_ in server.advance(END)] == [40, 50, 60]


def test_nonsense_is_refused() -> None:
    server = path(1e6)
    server.offer(0, 5, 100)
    for number, now, length in ((0, 4, 100), (0, 6, 0), (0, 6, -5), (1, 6, 100), (-1, 6, 100)):
        with pytest.raises(ValueError):
            server.offer(number, now, length)
    for documents in ([{}], [{"rate_bps": 0}]):
        with pytest.raises(ValueError):
            paths(documents)
    with pytest.raises(TypeError):
        paths([{"rate_bps": "fast"}])
    with pytest.raises(ValueError):
        paths([{"rate_bps": 1e6}], scheduler="fifo")
    with pytest.raises(ValueError, match="of its own"):
        paths([{"rate_bps": 1e6, "trace_ms": [1]}, {"rate_bps": 1e6}])
