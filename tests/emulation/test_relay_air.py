"""Loss, duplicates, damage and jitter in virtual time: of the distribution asked for, from the seed alone."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from typing import Any

import pytest

from emulation.link import FRAME_BYTES
from tests.emulation.virtual import HOUR, Ending, carried, path

COUNT = 40_000


def endings(count: int = COUNT, length: int = 100, **parameters: Any) -> list[Ending]:
    """Frames far enough apart that none waits for another."""
    return carried(path(1e9, **parameters), [(i * 1_000_000_000, length) for i in range(count)])


def losses(count: int = COUNT, **parameters: Any) -> list[bool]:
    return [fate == "loss" for *_, fate, _ in endings(count, **parameters) if fate != "copy"]


@pytest.mark.parametrize("loss", [0.01, 0.3])
def test_loss_has_its_rate_and_no_memory(loss: float) -> None:
    lost = losses(loss=loss, seed=7)
    expected = COUNT * loss
    assert abs(sum(lost) - expected) <= 3.3 * math.sqrt(expected * (1 - loss))
    pairs = sum(a and b for a, b in itertools.pairwise(lost))
    assert abs(pairs - COUNT * loss**2) <= 4 * math.sqrt(COUNT * loss**2) + 3


@pytest.mark.parametrize(("loss", "burst"), [(0.02, 4.0), (0.2, 10.0), (0.5, 1.5)])
def test_gilbert_elliott_has_its_mean_and_geometric_bursts(loss: float, burst: float) -> None:
    lost = losses(10 * COUNT, loss=loss, loss_burst=burst, seed=3)
    r = 1 / burst
    memory = 1 - r - r * loss / (1 - loss)
    error = math.sqrt(loss * (1 - loss) * (1 + memory) / (1 - memory) / len(lost))
    assert abs(statistics.mean(lost) - loss) <= 3.3 * error
    lengths = [len(list(group)) for gone, group in itertools.groupby(lost) if gone]
    assert statistics.mean(lengths) == pytest.approx(burst, rel=4 / math.sqrt(len(lengths)))
    histogram = Counter(lengths)
    for length in range(1, 6):
        expected = len(lengths) * r * (1 - r) ** (length - 1)
        assert abs(histogram[length] - expected) <= 4 * math.sqrt(expected) + 3


def test_a_change_of_loss_keeps_the_bursts() -> None:
    server = path(1e9, loss=0.02, loss_burst=8.0, seed=1)
    for i in range(10 * COUNT):
        if i == 5 * COUNT:
            server.change(0, i * 1_000_000, loss=0.3)
        server.offer(0, i * 1_000_000, 100)
    lost = [e[3] == "loss" for e in sorted(server.advance(2 * HOUR), key=lambda ending: ending[2])]
    for half, loss in ((lost[: 5 * COUNT], 0.02), (lost[5 * COUNT :], 0.3)):
        lengths = [len(list(group)) for gone, group in itertools.groupby(half) if gone]
        assert statistics.mean(half) == pytest.approx(loss, rel=0.2)
        assert statistics.mean(lengths) == pytest.approx(8, rel=0.15)


@pytest.mark.parametrize("burst", [1.0, 3.0])
def test_loss_is_the_seeds_and_nothing_elses(burst: float) -> None:
    plain = losses(5000, loss=0.1, loss_burst=burst, seed=1)
    assert plain == losses(5000, loss=0.1, loss_burst=burst, seed=1)
    assert plain != losses(5000, loss=0.1, loss_burst=burst, seed=2)
    others = {"jitter_s": 0.01, "duplicate": 0.2, "corrupt": 0.2, "delay_s": 0.1, "codel": 1}
    assert plain == losses(5000, loss=0.1, loss_burst=burst, seed=1, mean_up_s=1, mean_down_s=1, **others)


def test_a_lost_frame_takes_the_link_but_delays_nobody_further() -> None:
    server = path(1e6, delay_s=0.01, loss=0.5, queue_bytes=200 * FRAME_BYTES, seed=3)
    for i, (when, _, _, fate, _) in enumerate(carried(server, [(0, FRAME_BYTES)] * 100)):
        sent = 12_112_000 * (i + 1)
        assert when == (sent if fate == "loss" else sent + 10_000_000)


def test_duplicates_and_damage_have_their_shares_among_what_arrives() -> None:
    told = endings(loss=0.2, duplicate=0.1, corrupt=0.05, seed=9)
    out = [ending for ending in told if ending[3] == "out"]
    copies = [ending for ending in told if ending[3] == "copy"]
    assert len(copies) == pytest.approx(0.1 * len(out), rel=0.08)
    assert {(when, frame) for when, _, frame, *_ in copies} <= {(when, frame) for when, _, frame, *_ in out}
    flips = [flip for *_, flip in out + copies if flip]
    assert len(flips) == pytest.approx(0.05 * (len(out) + len(copies)), rel=0.1)
    whole = {frame for _, _, frame, _, flip in out if not flip}
    assert any(flip and frame in whole for _, _, frame, _, flip in copies), "a copy is damaged by itself"
    assert min(flips) >= 8 * 14 and max(flips) < 8 * 100
    assert statistics.mean(flips) == pytest.approx((112 + 799) / 2, rel=0.03)
    assert all(flip == 0 for *_, flip in endings(500, length=14, corrupt=0.9))


def delays_ns(**parameters: Any) -> list[int]:
    return [when - i * 1_000_000_000 - 800 for i, (when, *_) in enumerate(endings(**parameters))]


def test_jitter_is_normal_around_the_delay() -> None:
    delays = delays_ns(delay_s=0.05, jitter_s=0.004, seed=11)
    assert statistics.mean(delays) == pytest.approx(50e6, abs=4 * 4e6 / math.sqrt(COUNT))
    assert statistics.stdev(delays) == pytest.approx(4e6, rel=0.02)
    beyond = sum(abs(delay - 50e6) > 1.96 * 4e6 for delay in delays) / COUNT
    assert beyond == pytest.approx(0.05, abs=0.005)


def test_jitter_follows_its_table_straight_between_its_quantiles() -> None:
    delays = delays_ns(delay_s=0.05, jitter_s=0.01, jitter_table=[-1.0, 0.0, 3.0], seed=4)
    below = [delay for delay in delays if delay < 50e6]
    above = [delay for delay in delays if delay >= 50e6]
    assert len(below) / COUNT == pytest.approx(0.5, abs=0.01)
    for side, low, high in ((below, 40e6, 50e6), (above, 50e6, 80e6)):  # Uniform on either side.
        assert min(side) >= low and max(side) <= high
        assert statistics.mean(side) == pytest.approx((low + high) / 2, rel=0.01)
        assert statistics.stdev(side) == pytest.approx((high - low) / math.sqrt(12), rel=0.02)
