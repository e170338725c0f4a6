"""The relay's clockwork in virtual time: exact, in order, conserving, seeded."""

from __future__ import annotations

import itertools
import math
import statistics
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation import _relay
from emulation.link import FRAME_BYTES, LinkSpec
from emulation.relay import _quantile_ns, _seed, lateness_limit_s

RATES = st.sampled_from([64_000, 1_000_000, 4_999_999, 20_000_000, 33_333_333, 100_000_000])
FRAMES = st.lists(
    st.tuples(st.integers(0, 20_000_000), st.integers(42, FRAME_BYTES)), min_size=1, max_size=120
)
"""(nanoseconds since the frame before, bytes)."""


class Reference:
    """The schedule of DESIGN.md in exact fractions of a nanosecond."""

    def __init__(self, rate_bps: int, delay_ns: int, queue_bytes: int) -> None:
        self.rate, self.delay, self.queue = Fraction(rate_bps), delay_ns, queue_bytes
        self.busy = Fraction(0)
        self.frames: list[tuple[Fraction, int]] = []  # start, length

    def offer(self, now: int, length: int) -> Fraction | None:
        waiting = sum(size for start, size in self.frames if start > now)
        if self.busy > now and waiting + length > self.queue:
            return None
        start = max(Fraction(now), self.busy)
        self.busy = start + Fraction(8 * length * 10**9) / self.rate
        self.frames.append((start, length))
        return self.busy + self.delay


@given(RATES, st.integers(0, 50_000_000), st.integers(FRAME_BYTES, 20 * FRAME_BYTES), FRAMES)
def test_releases_and_tail_drops_are_exact(
    rate: int, delay_ns: int, queue: int, frames: list[tuple[int, int]]
) -> None:
    path = _relay.Path(rate, delay_ns * 1e-9, queue_bytes=queue)
    reference, now = Reference(rate, delay_ns, queue), 1_000_000
    for gap, length in frames:
        now += gap
        expected, got = reference.offer(now, length), path.offer(now, length)
        if expected is None:
            assert got == _relay.DROPPED_QUEUE
        else:
            assert abs(got - expected) <= 1


@given(RATES, st.floats(0, 0.03), st.floats(0, 0.02), st.floats(0, 0.5), FRAMES, st.integers(0, 2**64 - 1))
def test_order_is_kept_and_frames_are_conserved(
    rate: int, delay: float, jitter: float, loss: float, frames: list[tuple[int, int]], seed: int
) -> None:
    path = _relay.Path(rate, delay, jitter, loss, 8 * FRAME_BYTES, seed)
    now, last, ends = 0, 0, []
    for gap, length in frames:
        now += gap
        out = path.offer(now, length)
        ends.append(out)
        if out >= 0:
            assert out >= last and out >= now + 8e9 * length / rate - 1
            last = out
        assert 0 <= path.waiting(now) <= 8 * FRAME_BYTES
    assert all(end >= 0 or end in (_relay.DROPPED_QUEUE, _relay.DROPPED_LOSS) for end in ends)
    assert path.waiting(2**62) == 0


def test_a_burst_drops_exactly_what_exceeds_service_and_queue() -> None:
    path = _relay.Path(10e6, queue_bytes=10 * FRAME_BYTES)
    outcomes = [path.offer(0, FRAME_BYTES) for _ in range(20)]
    frame_ns = 8e9 * FRAME_BYTES / 10e6
    assert outcomes[11:] == [_relay.DROPPED_QUEUE] * 9
    assert outcomes[:11] == [pytest.approx(frame_ns * (i + 1), abs=1) for i in range(11)]
    assert path.waiting(0) == 10 * FRAME_BYTES
    assert path.offer(round(frame_ns), FRAME_BYTES) > 0  # The second frame got the link: room for one.
    assert path.offer(round(frame_ns), 42) == _relay.DROPPED_QUEUE


def test_a_frame_on_the_delay_line_does_not_wait() -> None:
    path = _relay.Path(10e6, delay_s=10.0, queue_bytes=FRAME_BYTES)
    frame_ns = round(8e9 * FRAME_BYTES / 10e6) + 1
    assert all(path.offer(i * frame_ns, FRAME_BYTES) > 0 for i in range(1000))


def test_a_saturated_path_keeps_its_rate_to_the_nanosecond() -> None:
    rate, frames = 7_654_321, 100_000
    path = _relay.Path(rate, queue_bytes=2 * FRAME_BYTES)
    out = 0
    for _ in range(frames):
        out = path.offer(out, FRAME_BYTES)  # Each as the one before it leaves: the link is never idle.
    assert abs(out - Fraction(8 * FRAME_BYTES * 10**9 * frames, rate)) < 2 * frames * 1e-9 * 1e9
    path = _relay.Path(rate, queue_bytes=frames * FRAME_BYTES)
    burst = [path.offer(0, FRAME_BYTES) for _ in range(frames)]
    assert abs(burst[-1] - Fraction(8 * FRAME_BYTES * 10**9 * frames, rate)) <= 1


def losses(seed: int, loss: float, frames: int, jitter: float = 0.0) -> list[bool]:
    path = _relay.Path(1e9, 0.1, jitter, loss, FRAME_BYTES, seed)
    return [path.offer(i * 1_000_000, 100) == _relay.DROPPED_LOSS for i in range(frames)]


@pytest.mark.parametrize("loss", [0.001, 0.01, 0.3])
def test_loss_has_its_rate_and_no_memory(loss: float) -> None:
    frames = math.ceil(400 / loss)
    lost = losses(7, loss, frames)
    assert abs(sum(lost) - 400) / math.sqrt(400 * (1 - loss)) <= 3.3
    pairs = sum(a and b for a, b in itertools.pairwise(lost))
    expected = frames * loss**2
    assert abs(pairs - expected) <= 4 * math.sqrt(expected) + 3


def test_loss_is_the_seeds_and_nothing_elses() -> None:
    assert losses(1, 0.1, 5000) == losses(1, 0.1, 5000)
    assert losses(1, 0.1, 5000) != losses(2, 0.1, 5000)
    assert losses(1, 0.1, 5000) == losses(1, 0.1, 5000, jitter=0.01)
    streams = {_seed(run, name, way) for run in (0, 1) for name in ("dev0", "dev1") for way in ("up", "down")}
    assert len(streams) == 8


def test_a_lost_frame_takes_the_link_but_delays_nobody_further() -> None:
    path = _relay.Path(1e6, 0.01, loss=0.5, queue_bytes=200 * FRAME_BYTES, seed=3)
    frame_ns = 8e9 * FRAME_BYTES / 1e6
    for i in range(100):
        out = path.offer(0, FRAME_BYTES)
        assert out == _relay.DROPPED_LOSS or out == pytest.approx(frame_ns * (i + 1) + 1e7, abs=1)


def test_jitter_is_normal_around_the_delay() -> None:
    path = _relay.Path(1e9, 0.05, 0.004, seed=11)
    spacing = 100_000_000  # 25 sigma: nobody waits for the one before.
    delays = [path.offer(i * spacing, 100) - i * spacing - 800 for i in range(20_000)]
    assert statistics.mean(delays) == pytest.approx(50e6, abs=4 * 4e6 / math.sqrt(len(delays)))
    assert statistics.stdev(delays) == pytest.approx(4e6, rel=0.02)
    beyond = sum(abs(delay - 50e6) > 1.96 * 4e6 for delay in delays) / len(delays)
    assert beyond == pytest.approx(0.05, abs=0.006)


def test_nonsense_is_refused() -> None:
    path = _relay.Path(1e6)
    for now, length in ((-1, 100), (0, 0), (0, -5)):
        with pytest.raises(ValueError):
            path.offer(now, length)


@given(st.integers(0, 2**35))
def test_a_lateness_quantile_is_never_understated_and_at_most_a_sixteenth_too_much(ns: int) -> None:
    sub = _relay.LATENESS_SUB_BITS
    exponent = max(0, ns.bit_length() - 1 - sub)
    bins = [0] * _relay.LATENESS_BINS
    bins[ns if ns < 1 << sub else (exponent << sub) + (ns >> exponent)] = 1
    assert ns < _quantile_ns(bins, 0.99) <= ns + max(1, ns / 16) + 1


def test_the_limit_on_lateness_follows_the_frame_time() -> None:
    assert lateness_limit_s(LinkSpec(100e6)) == 100e-6
    assert lateness_limit_s(LinkSpec(1e6)) == pytest.approx(0.05 * 12.112e-3)
