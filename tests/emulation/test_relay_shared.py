"""Paths that share one air: who gets how much of its time, in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation import _relay
from emulation.link import FRAME_BYTES
from tests.emulation.virtual import END, paths

SECOND = 1_000_000_000
SCHEDULERS = ["round_robin", "proportional_fair"]
RATES = st.lists(st.sampled_from([1e6, 2.5e6, 10e6, 50e6]), min_size=2, max_size=5)


def cell(rates: list[float], scheduler: str) -> _relay.Clockwork:
    return paths([{"rate_bps": rate, "queue_bytes": 10**9} for rate in rates], scheduler)


def fill(server: _relay.Clockwork, number: int, frames: int, now: int = 0) -> None:
    for _ in range(frames):
        server.offer(number, now, FRAME_BYTES)


def airtime_ns(server: _relay.Clockwork, rates: list[float], until: int) -> list[float]:
    """Of the frames that came out by `until`, per path."""
    spent = [0.0] * len(rates)
    for _, number, *_ in server.advance(until):
        spent[number] += 8e9 * FRAME_BYTES / rates[number]
    return spent


@given(RATES)
def test_round_robin_gives_everyone_the_same_airtime_within_a_frame(rates: list[float]) -> None:
    server, longest = cell(rates, "round_robin"), max(8e9 * FRAME_BYTES / rate for rate in rates)
    for number in range(len(rates)):
        fill(server, number, 5000)
    total = [0.0] * len(rates)
    for step in range(1, 40):
        spent = airtime_ns(server, rates, step * SECOND // 40)
        total = [a + b for a, b in zip(total, spent, strict=True)]
        assert max(total) - min(total) <= 2 * longest
    assert sum(total) == pytest.approx(39 * SECOND / 40, abs=2 * longest), "no time is left unused"


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_slow_member_costs_everyone_and_alone_each_has_it_all(scheduler: str) -> None:
    rates = [10e6, 1e6]
    server = cell(rates, scheduler)
    fill(server, 0, 20_000)
    alone = airtime_ns(server, rates, SECOND)
    fill(server, 1, 100, now=SECOND)
    shared = airtime_ns(server, rates, 2 * SECOND)
    assert alone[0] == pytest.approx(SECOND, rel=0.01)
    if scheduler == "round_robin":  # Proportional fairness makes up for the first second.
        assert shared == [pytest.approx(SECOND / 2, rel=0.03)] * 2
    server.advance(6 * SECOND)  # The 100 slow frames are out after 2.4 s of their half of the time.
    assert airtime_ns(server, rates, 7 * SECOND) == [pytest.approx(SECOND, rel=0.01), 0.0]


def test_with_one_less_the_others_are_faster_from_the_next_frame_on() -> None:
    server = cell([8e6] * 3, "round_robin")  # 1.514 ms a frame
    fill(server, 0, 2)
    fill(server, 1, 2)
    fill(server, 2, 1)
    order = [(when // 1000, number) for when, number, *_ in server.advance(END)]
    assert order == [(1514, 0), (3028, 1), (4542, 2), (6056, 0), (7570, 1)]


def test_who_was_silent_has_saved_nothing_up() -> None:
    rates = [10e6, 10e6]
    server = cell(rates, "round_robin")
    fill(server, 0, 5000)
    server.advance(3 * SECOND)
    fill(server, 1, 1000, now=3 * SECOND)
    assert airtime_ns(server, rates, 4 * SECOND) == [pytest.approx(SECOND / 2, rel=0.01)] * 2


def test_proportional_fairness_is_equal_airtime_while_rates_stand_still() -> None:
    rates = [20e6, 5e6, 1e6]
    server = cell(rates, "proportional_fair")
    for number in range(3):
        fill(server, number, 50_000)
    server.advance(10 * SECOND)
    assert airtime_ns(server, rates, 30 * SECOND) == [pytest.approx(20 * SECOND / 3, rel=0.03)] * 3


def test_proportional_fairness_rides_the_peaks_and_round_robin_does_not() -> None:
    def carried(scheduler: str) -> list[int]:
        server, counts = cell([10e6, 2e6], scheduler), [0, 0]
        for number in range(2):
            fill(server, number, 50_000)
        for step in range(1, 400):  # Each is good while the other is bad, for 50 ms.
            now = step * SECOND // 20
            for number in range(2):
                server.change(number, now, rate_bps=10e6 if (step + number) % 2 == 0 else 2e6)
            for _, number, *_ in server.advance(now):
                counts[number] += 1
        return counts

    fair, round_robin = carried("proportional_fair"), carried("round_robin")
    assert fair[0] == pytest.approx(fair[1], rel=0.03)
    assert sum(fair) > 1.4 * sum(round_robin)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_member_that_goes_down_leaves_the_air_to_the_others_and_comes_back_where_it_was(
    scheduler: str,
) -> None:
    server = cell([1e6, 1e6], scheduler)  # 12.112 ms a frame
    fill(server, 0, 1)
    fill(server, 1, 3)
    server.change(0, 6_056_000, up=0)  # Half of its frame is sent.
    server.change(0, 20_000_000, up=1)
    endings = {(number, frame): when for when, number, frame, *_ in server.advance(END)}
    assert endings[1, 1] == 6_056_000 + 12_112_000
    last = max(endings.values())
    assert last == 4 * 12_112_000, "no time is lost, none is gained"
    assert len(endings) == 4
