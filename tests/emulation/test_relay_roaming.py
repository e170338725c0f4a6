"""Paths that move from air to air under way, in virtual time: against a model, and by what they get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation import _relay
from emulation.link import FRAME_BYTES
from tests.emulation.test_relay_core import LENGTHS, SPECS
from tests.emulation.virtual import END, cells, on_time

SECOND = 1_000_000_000
MS = 1_000_000
DELAYS_MS = (0, 5, 20)
BEGIN = (0, 0, 1)
"""Three paths, in the first, the first and the second of three cells."""


@dataclass(eq=False)
class Member:
    number: int
    rate: int = 8_000_000
    up: bool = True
    queue: list[tuple[int, int]] = field(default_factory=list)
    """(frame, bits); the first keeps its place until its last bit is sent."""
    left: Fraction = Fraction(0)
    """Of the first, once it was in service."""
    airtime: Fraction = Fraction(0)

    @property
    def ready(self) -> bool:
        return self.up and bool(self.queue)


class Cell:
    """Start-time fair queueing of airtime in exact numbers; no frame is preempted."""

    def __init__(self, members: list[Member]) -> None:
        self.members, self.turn = members, 0
        self.serving: Member | None = None
        self.clock = self.start_tag = Fraction(0)

    def settle(self, now: Fraction) -> None:
        if self.serving:
            self.serving.left -= (now - self.clock) * self.serving.rate / SECOND
            self.serving.airtime += now - self.clock
        self.clock = now

    def finish(self) -> Fraction:
        member = self.serving
        return self.clock + member.left * SECOND / member.rate if member else Fraction(END)

    def pick(self) -> None:
        in_turn = self.members[self.turn :] + self.members[: self.turn]
        ready = [member for member in in_turn if member.ready]
        self.serving = min(ready, key=lambda member: member.airtime, default=None)
        if self.serving is None:
            self.start_tag = max([self.start_tag, *(member.airtime for member in self.members)])
            return
        self.turn = self.members.index(self.serving) + 1
        self.start_tag = self.serving.airtime
        self.serving.left = self.serving.left or Fraction(self.serving.queue[0][1])

    def waits(self, member: Member) -> None:
        member.airtime = max(member.airtime, self.start_tag)
        if self.serving is None:
            self.pick()


class Model:
    """What cells do with the frames of three members, who may move."""

    def __init__(self) -> None:
        self.members = [Member(number) for number in range(3)]
        self.cells = [Cell([m for m in self.members if BEGIN[m.number] == cell]) for cell in range(3)]
        self.out: dict[int, tuple[Fraction, int]] = {}

    def advance(self, now: int) -> None:
        while (cell := min(self.cells, key=Cell.finish)).finish() <= now and cell.serving:
            cell.settle(when := cell.finish())
            frame, _ = cell.serving.queue.pop(0)
            self.out[frame] = when, cell.serving.number
            cell.pick()
        for cell in self.cells:
            cell.settle(Fraction(now))

    def apply(self, now: int, number: int, what: Any, frame: int) -> None:
        self.advance(now)
        member = self.members[number]
        home = next(cell for cell in self.cells if member in cell.members)
        match what:
            case ("offer", length):
                member.queue.append((frame, 8 * length))
                if len(member.queue) == 1 and member.up:
                    home.waits(member)
            case ("rate", rate):
                member.rate = rate
            case ("up", up) if up != member.up:
                member.up = up
                if up:
                    home.waits(member)
                elif home.serving is member:
                    home.pick()
            case ("move", cell) if self.cells[cell] is not home:
                place = home.members.index(member)
                home.members.remove(member)
                home.turn -= home.turn > place
                self.cells[cell].members.append(member)
                if home.serving is member:
                    home.pick()
                member.airtime = self.cells[cell].start_tag
                self.cells[cell].waits(member)


# In whole microseconds and powers of two of Mbit/s all of the relay's numbers are exact.
WHAT = st.one_of(
    st.tuples(st.just("offer"), LENGTHS),
    st.tuples(st.just("rate"), st.sampled_from([1_000_000, 2_000_000, 4_000_000, 8_000_000])),
    st.tuples(st.just("up"), st.booleans()),
    st.tuples(st.just("move"), st.integers(0, 2)),
)
STEPS = st.lists(st.tuples(st.sampled_from([0, 0, 1, 100, 733, 5000]), st.integers(0, 2), WHAT), max_size=120)


@given(STEPS)
def test_releases_are_the_models_through_moves_outages_and_changes_of_rate(
    steps: list[tuple[int, int, Any]],
) -> None:
    model, now, offered = Model(), 0, 0
    clockwork = cells(
        [
            [
                {"rate_bps": 8e6, "queue_bytes": 10**9, "delay_s": DELAYS_MS[number] * 1e-3}
                for number in range(3)
                if BEGIN[number] == cell
            ]
            for cell in range(3)
        ]
    )
    for gap_us, number, what in [*steps, *((0, number, ("up", True)) for number in range(3))]:
        now += 1000 * gap_us
        model.apply(now, number, what, offered)
        match what:
            case ("offer", length):
                assert clockwork.offer(number, now, length) == offered
                offered += 1
            case ("move", cell):
                clockwork.move(number, now, cell)
            case (key, value):
                clockwork.change(number, now, **{"rate_bps" if key == "rate" else "up": value})
    model.advance(now + 100 * SECOND)
    told = {frame: (when, number) for when, number, frame, fate, _ in clockwork.advance(END) if fate == "out"}
    assert told == {
        frame: (when + DELAYS_MS[number] * MS, number) for frame, (when, number) in model.out.items()
    }
    assert len(told) == offered


MOVES = st.lists(
    st.tuples(
        st.sampled_from([0, 1_000, 7_777_777]),
        st.integers(0, 2),
        st.one_of(LENGTHS, LENGTHS, st.integers(-3, -1)),  # A frame's length, or minus the cell to move to.
    ),
    max_size=150,
)


@given(st.lists(SPECS, min_size=3, max_size=3), st.sampled_from(["round_robin", "proportional_fair"]), MOVES)
def test_across_moves_order_is_kept_frames_are_conserved_and_lateness_changes_nothing(
    specs: list[dict[str, float]], scheduler: str, steps: list[tuple[int, int, int]]
) -> None:
    late, punctual = (cells([specs[:2], specs[2:], []], scheduler) for _ in range(2))
    now, told, frames = 0, [], set()
    for gap, number, what in steps:
        now += gap
        told += on_time(punctual, now)
        if what > 0:
            frames.add(late.offer(number, now, what))
            punctual.offer(number, now, what)
        else:
            late.move(number, now, -what - 1)
            punctual.move(number, now, -what - 1)
    end = now + 30 * SECOND
    endings = late.advance(end)
    told += on_time(punctual, end)
    assert sorted(told) == endings, "a schedule must not depend on when it is looked at"
    once = [frame for *_, frame, fate, _ in endings if fate != "copy"]
    assert sorted(once) == sorted(frames), "each frame ends once"
    for number in range(3):
        out = [(when, frame) for when, at, frame, fate, _ in endings if at == number and fate == "out"]
        assert [frame for _, frame in out] == sorted(frame for _, frame in out), "order is kept"


def full(airs: list[list[float]], scheduler: str = "round_robin") -> _relay.Clockwork:
    """Paths with a backlog of more than is sent here, by the airs they begin in and their rates."""
    clockwork = cells([[{"rate_bps": rate, "queue_bytes": 10**9} for rate in air] for air in airs], scheduler)
    for number in range(sum(map(len, airs))):
        for _ in range(20_000):
            clockwork.offer(number, 0, FRAME_BYTES)
    return clockwork


def carried_bps(clockwork: _relay.Clockwork, count: int, seconds: range) -> Iterator[list[float]]:
    """What each path carried in each second."""
    for second in seconds:
        numbers = [number for _, number, *_ in clockwork.advance((second + 1) * SECOND)]
        yield [8.0 * FRAME_BYTES * numbers.count(number) for number in range(count)]


@pytest.mark.parametrize("scheduler", ["round_robin", "proportional_fair"])
def test_airtime_is_shared_with_those_in_the_same_air_and_no_others(scheduler: str) -> None:
    clockwork = full([[8e6], [8e6, 2e6], []], scheduler)

    def then(*expected: float) -> None:
        nonlocal second
        *_, last = carried_bps(clockwork, 3, range(second, second + 6))  # Proportional fairness needs some.
        assert last == [pytest.approx(rate, rel=0.04) for rate in expected]
        second += 6

    second = 0
    then(8e6, 4e6, 1e6)
    clockwork.move(1, second * SECOND, 0)
    then(4e6, 4e6, 2e6)
    clockwork.move(2, second * SECOND, 0)
    then(8e6 / 3, 8e6 / 3, 2e6 / 3)
    clockwork.move(0, second * SECOND, 2)
    then(8e6, 4e6, 1e6)
    clockwork.move(1, second * SECOND, 1)
    then(8e6, 8e6, 2e6)


def test_a_frame_half_sent_goes_on_in_an_idle_air_and_waits_in_a_busy_one() -> None:
    one = {"rate_bps": 1e6}  # 10 ms a frame of 1250 bytes.
    idle, busy = (cells([[one], [one]]) for _ in range(2))
    for clockwork in (idle, busy):
        clockwork.offer(0, 0, 1250)
    busy.offer(1, 3 * MS, 1250)
    for clockwork in (idle, busy):
        clockwork.move(0, 4 * MS, 1)
    assert [(when, number) for when, number, *_ in idle.advance(END)] == [(10 * MS, 0)]
    assert [(when, number) for when, number, *_ in busy.advance(END)] == [(13 * MS, 1), (19 * MS, 0)]


def test_what_one_had_elsewhere_counts_for_nothing() -> None:
    clockwork = full([[8e6], [8e6, 8e6]])
    clockwork.advance(3 * SECOND)
    clockwork.move(0, 3 * SECOND, 1)  # It has had twice as much airtime as those it joins.
    assert next(carried_bps(clockwork, 3, range(3, 4))) == [pytest.approx(8e6 / 3, rel=0.01)] * 3
    clockwork.move(1, 4 * SECOND, 0)
    clockwork.advance(7 * SECOND)
    clockwork.move(0, 7 * SECOND, 0)  # And now less: it is owed nothing for that.
    assert next(carried_bps(clockwork, 3, range(7, 8))) == [
        pytest.approx(rate, rel=0.01) for rate in (4e6, 4e6, 8e6)
    ]


def test_those_left_behind_keep_their_turns() -> None:
    clockwork = cells([[{"rate_bps": 8e6}] * 4, []])  # 1 ms a frame of 1000 bytes.
    for number in range(4):
        clockwork.offer(number, 0, 1000)
    clockwork.move(0, MS // 2, 1)
    assert sorted((when * 2 // MS, number) for when, number, *_ in clockwork.advance(END)) == [
        (2, 0), (3, 1), (5, 2), (7, 3)
    ]  # fmt: skip


def test_what_is_on_its_way_arrives_whatever_the_path_does() -> None:
    clockwork = cells([[{"rate_bps": 8e6, "delay_s": 0.05}], []])
    clockwork.offer(0, 0, 1000)
    clockwork.move(0, 10 * MS, 1)
    assert clockwork.next() == 51 * MS
    clockwork.move(0, 20 * MS, 0)
    assert clockwork.next() == 51 * MS
    assert [when for when, *_ in clockwork.advance(51 * MS)] == [51 * MS]


def test_moves_to_nowhere_and_of_traces_are_refused() -> None:
    clockwork = cells([[{"rate_bps": 1e6}], []])
    for number, server in ((0, 2), (0, -1), (1, 0)):
        with pytest.raises(ValueError):
            clockwork.move(number, 0, server)
    traced = _relay.Clockwork(
        [
            ("round_robin", [{"rate_bps": 1e6, "trace_ns": (1000).to_bytes(8, "little")}]),
            ("round_robin", [{"rate_bps": 1e6}]),
        ]
    )
    for number, server in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="a trace's"):
            traced.move(number, 0, server)
