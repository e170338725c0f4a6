"""The driver: commands what the channel says, records what it commanded, and tells when it could not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from emulation.backend import Direction
from emulation.channel_driver import ChannelDriver, Command
from emulation.handover import HandoverRule
from emulation.link import Air, LinkChange, LinkError
from emulation.mobility import Way
from tests.emulation.channels import CELLS, small_channel, still

DEVICES = ["dev0", "dev1"]
QUICK: dict[str, Any] = {"interval_s": 0.01}


class Links:
    """A network that only remembers: every change, and what each link is by now.

    Each change first does `beforehand`.
    """

    def __init__(self, beforehand: Callable[[], None] = lambda: None) -> None:
        self.changes: list[tuple[str, str, LinkChange]] = []
        self.now: dict[Direction, LinkChange] = {}
        self._beforehand = beforehand

    def change(self, device: str, direction: str, change: LinkChange) -> None:
        self._beforehand()
        self.changes.append((device, direction, change))
        given = {key: value for key, value in vars(change).items() if value is not None}
        self.now[device, direction] = replace(self.now.get((device, direction), LinkChange()), **given)


class Recorder:
    """Lets a test wait for so many commands, each of which tells what the links were really told."""

    def __init__(self, wanted: int, links: Links) -> None:
        self.commands: list[Command] = []
        self._links = links
        self.enough = threading.Event()
        self._wanted = wanted

    def __call__(self, command: Command) -> None:
        assert command.in_force == self._links.now
        self.commands.append(command)
        if len(self.commands) >= self._wanted:
            self.enough.set()


def drive(links: Links, steps: int, dilation: float = 1.0, **model: Any) -> tuple[Recorder, ChannelDriver]:
    recorder = Recorder(steps, links)
    driver = ChannelDriver(small_channel(**model), links, DEVICES, recorder, dilation=dilation)
    with driver:
        assert recorder.enough.wait(20), driver.violations()
    return recorder, driver


def test_links_are_told_what_the_channel_says() -> None:
    links = Links()
    recorder, _ = drive(links, 20, **QUICK)
    again = small_channel(**QUICK)
    assert set(links.now) == {(device, way) for device in DEVICES for way in ("down", "up")}
    for command in recorder.commands:
        state = again.state(command.state.time_s)
        assert (state.rate_bps == command.state.rate_bps).all()
        for (device, direction), now in command.in_force.items():
            place = DEVICES.index(device), ("down", "up").index(direction)
            assert now.up == state.up[place]
            if now.up:
                assert now.rate_bps == pytest.approx(state.rate_bps[place], rel=0.01)
                assert now.loss == pytest.approx(state.loss[place], rel=0.01, abs=1e-6)
    times = [(command.begun_s, command.done_s) for command in recorder.commands]
    assert all(begun <= done for begun, done in times)
    assert all(done <= begun for (_, done), (begun, _) in pairwise(times))
    # Each step is commanded when it is due and not before, on the clock of the first.
    start = times[0][0]
    for (begun, _), command in zip(times, recorder.commands, strict=True):
        assert begun - start >= command.state.time_s - 0.002


def test_only_what_changed_is_sent() -> None:
    links = Links()
    recorder, _ = drive(links, 5, **QUICK, ways=still((200.0, 200.0), (400.0, 200.0)), fading=None)
    assert len(recorder.commands) >= 5
    assert len(links.changes) == 4  # Nothing moves: each direction was told once.
    assert all(change.rate_bps and change.up for _, _, change in links.changes)


def test_small_changes_never_add_up() -> None:
    """What is in force stays within 1 % of the state, however slowly it drifts."""
    links = Links()
    slow = {"ways": still((200.0, 200.0), (400.0, 200.0)), "shadowing_db": 0.0}
    recorder, _ = drive(links, 30, **QUICK, **slow)
    sent = [change for _, _, change in links.changes]
    assert len(sent) > 4
    assert any(change.rate_bps is None or change.loss is None for change in sent[4:])
    for command in recorder.commands:
        for number, device in enumerate(DEVICES):
            for side, direction in enumerate(("down", "up")):
                state = command.state
                if state.up[number, side]:
                    assert command.in_force[device, direction].rate_bps == pytest.approx(
                        state.rate_bps[number, side], rel=0.0101
                    )


def test_a_handover_moves_the_link_to_its_new_cells_air_once() -> None:
    links, airs = Links(), [Air("cell 0"), Air("cell 1")]
    crossing = [Way([(0.0, 150.0, 200.0), (0.2, 450.0, 200.0)]), *still((120.0, 200.0))]
    rule = HandoverRule(time_to_trigger_s=0.0, interruption_s=0.03)
    calm = {"fading": None, "shadowing_db": 0.0, "ways": crossing, "handover": rule}
    recorder = Recorder(30, links)
    with ChannelDriver(small_channel(**QUICK, **calm), links, DEVICES, recorder, airs=airs) as driver:
        assert recorder.enough.wait(20), driver.violations()
    moves = [(device, way, change.air.name) for device, way, change in links.changes if change.air]
    begin = [(device, way, "cell 0") for device in DEVICES for way in ("down", "up")]
    assert moves == [*begin, ("dev0", "down", "cell 1"), ("dev0", "up", "cell 1")]
    for command in recorder.commands:  # Interrupted, it is in the new cell already.
        told = {command.in_force["dev0", way].air for way in ("down", "up")}
        assert told == {airs[command.state.cell[0]]}
    with pytest.raises(ValueError, match="1 airs for a channel of 2 cells"):
        ChannelDriver(small_channel(), links, DEVICES, recorder, airs=airs[:1])


def test_an_outage_takes_the_link_down_and_keeps_its_rate() -> None:
    links = Links()
    calm = {"fading": None, "shadowing_db": 0.0, "line_of_sight": False, "cells_m": CELLS[:1]}
    _, _ = drive(links, 2, **QUICK, **calm, ways=still((150.0, 200.0), (5000.0, 200.0)))
    by_link = {(device, direction): change for device, direction, change in links.changes}
    assert by_link["dev0", "up"].up is True
    assert by_link["dev1", "up"] == LinkChange(up=False)


def test_dilation_slows_the_channel_down_and_divides_its_rates() -> None:
    still_life = {"ways": still((200.0, 200.0), (400.0, 200.0)), "fading": None}
    plain, slow = Links(), Links()
    drive(plain, 1, **QUICK, **still_life)
    recorder, _ = drive(slow, 4, **QUICK, **still_life, dilation=4.0)
    for (_, _, one), (_, _, other) in zip(plain.changes, slow.changes, strict=True):
        assert one.rate_bps is not None and other.rate_bps == pytest.approx(one.rate_bps / 4)
        assert one.loss == other.loss
    first, *_, last = recorder.commands
    assert last.begun_s - first.begun_s >= 4 * last.state.time_s - 0.002


def test_late_steps_are_left_out_counted_and_named() -> None:
    recorder, driver = drive(Links(lambda: time.sleep(0.02)), 4, **QUICK)
    times = [command.state.time_s for command in recorder.commands]
    assert times[1] >= 0.08  # The first step's 4 changes of 20 ms took 8 intervals of 10 ms.
    (violation,) = driver.violations()
    assert "steps came more than an interval late" in violation and "network.channel.interval" in violation


def test_in_time_is_no_violation() -> None:
    links = Links()
    recorder = Recorder(1, links)
    channel = small_channel(interval_s=1.0)
    with ChannelDriver(channel, links, DEVICES, recorder, dilation=20.0) as driver:
        assert recorder.enough.wait(20)
    assert driver.violations() == []


def test_a_link_that_cannot_be_changed_is_a_violation() -> None:
    failed = threading.Event()

    def refuse() -> None:
        failed.set()
        raise LinkError("dev0 down: no such\nrate")

    links = Links(refuse)
    recorder = Recorder(1, links)
    with ChannelDriver(small_channel(**QUICK), links, DEVICES, recorder) as driver:
        assert failed.wait(20)
    (violation,) = driver.violations()
    assert "dev0 down: no such rate" in violation and "\n" not in violation
    assert recorder.commands == []


def test_leaving_does_not_wait_for_the_next_step() -> None:
    links = Links()
    recorder = Recorder(1, links)
    driver = ChannelDriver(small_channel(interval_s=1.0), links, DEVICES, recorder, dilation=100.0)
    with driver:
        assert recorder.enough.wait(20)
    assert len(recorder.commands) == 1  # The next step is 100 s away.


def test_as_many_devices_as_the_channel_has() -> None:
    with pytest.raises(ValueError, match="2 devices cannot drive 1"):
        ChannelDriver(small_channel(), Links(), ["dev0"], Recorder(1, Links()))
