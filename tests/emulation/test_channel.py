"""The channel as a whole: deterministic, monotone, down where nothing gets through."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulation.channel import ChannelState, RadioDirection, Scatter
from emulation.handover import HandoverRule
from emulation.link_budget import ChannelError, LinkBudget
from emulation.mobility import Way
from emulation.rate_adaptation import CAPACITY
from tests.emulation.channels import CELLS, small_channel, still, walkers

CALM: dict[str, Any] = {"shadowing_db": 0.0, "fading": None, "line_of_sight": False}


def same(one: ChannelState, other: ChannelState) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(ChannelState))


def test_the_snr_is_the_link_budget_s() -> None:
    """200 m from UMa NLOS at 3.5 GHz: 114.46 dB; 5 MHz: noise -107.01 dBm + noise figure."""
    state = small_channel(ways=still((300.0, 200.0)), cells_m=CELLS[:1], **CALM).state(0.0)
    assert state.distance_m[0] == 200 and state.path_loss_db[0] == pytest.approx(114.46, abs=0.01)
    assert state.snr_db[0] == pytest.approx([40 - 114.46 + 107.01 - 9, 23 - 114.46 + 107.01 - 5], abs=0.01)
    assert state.rate_bps[0, 0] > state.rate_bps[0, 1] > 0 and state.up.all()


def test_a_band_of_one_s_own_has_all_the_power_and_less_noise() -> None:
    """A fifth of the band: 7 dB more SNR, and Shannon's bound with that; the other way keeps its own."""
    radio = {
        "down": RadioDirection(LinkBudget(40.0, 5e6, 9.0), CAPACITY),
        "up": RadioDirection(LinkBudget(23.0, 5e6, 5.0), CAPACITY),
    }
    where: dict[str, Any] = CALM | radio | {"ways": still(*[(300.0, 200.0)] * 2), "cells_m": CELLS[:1]}
    whole = small_channel(**where).state(0.0)
    state = small_channel(**where, bands_hz=np.array([[5e6, 5e6], [1e6, 4e6]])).state(0.0)
    assert state.rate_bps[0] == pytest.approx(whole.rate_bps[0])
    assert state.snr_db[1] - whole.snr_db[1] == pytest.approx([10 * np.log10(5), 10 * np.log10(5 / 4)])
    assert state.rate_bps[1] == pytest.approx([1e6, 4e6] * np.log2(1 + 10 ** (state.snr_db[1] / 10)))
    with pytest.raises(ChannelError, match=r"bands of shape \(1, 2\) for 2 devices"):
        small_channel(**where, bands_hz=np.ones((1, 2)))


def test_states_depend_on_time_alone() -> None:
    every, some = small_channel(), small_channel()
    for step in range(100):
        state = every.state(step * 0.1)
        assert state.time_s == pytest.approx(step * 0.1)
        assert same(state, every.state(step * 0.1 + 0.05))
        if step % 33 == 0:
            assert same(state, some.state(step * 0.1))
    with pytest.raises(ValueError, match="the channel is past 1 s"):
        every.state(1.0)


def test_seeds_differ_and_repeat() -> None:
    assert same(small_channel(seed=1).state(3.0), small_channel(seed=1).state(3.0))
    assert not same(small_channel(seed=1).state(3.0), small_channel(seed=2).state(3.0))


def test_a_device_s_channel_does_not_depend_on_the_others() -> None:
    two, three = small_channel().state(5.0), small_channel(ways=walkers(3)).state(5.0)
    assert (two.snr_db == three.snr_db[:2]).all() and (two.rate_bps == three.rate_bps[:2]).all()


@settings(max_examples=50, deadline=None)
@given(near=st.floats(1, 3000), further=st.floats(0, 2000))
def test_farther_is_never_better(near: float, further: float) -> None:
    state = small_channel(ways=still((near, 0.0), (near + further, 0.0)), cells_m=[(0.0, 0.0)], **CALM).state(
        0
    )
    assert (state.snr_db[0] >= state.snr_db[1]).all()
    # A CQI's first retransmissions may cost a little more than the next lower one's.
    assert (state.rate_bps[0] >= 0.97 * state.rate_bps[1]).all()


def test_out_of_range_is_down_and_uplink_goes_first() -> None:
    far = small_channel(ways=still((600.0, 0.0), (4900.0, 0.0)), cells_m=[(0.0, 0.0)], **CALM).state(0)
    assert far.up.tolist() == [[True, False], [False, False]]
    assert (far.rate_bps[~far.up] == 0).all() and (far.loss[~far.up] == 0).all()


def test_who_stands_still_has_one_shadow_but_fades() -> None:
    channel = small_channel(ways=still((300.0, 100.0)))
    states = [channel.state(step * 0.1) for step in range(20)]
    assert len({float(state.shadowing_db[0]) for state in states}) == 1
    assert len({float(state.snr_db[0, 0]) for state in states}) == 20
    frozen = small_channel(ways=still((300.0, 100.0)), fading=Scatter(scatterer_speed_m_s=0.0))
    assert len({float(frozen.state(step * 0.1).snr_db[0, 0]) for step in range(20)}) == 1


def test_shadowing_has_the_deviation_of_its_sight() -> None:
    state = small_channel(ways=still(*[(300.0, 100.0)] * 1500), cells_m=CELLS[:1]).state(0)
    for sight, deviation in ((True, 4.0), (False, 6.0)):
        values = state.shadowing_db[state.line_of_sight == sight]
        assert values.std() == pytest.approx(deviation, rel=0.15)
    assert state.line_of_sight.mean() == pytest.approx(0.11, abs=0.04)  # 18/d + exp(-d/63)(1 - 18/d), 224 m


def test_faster_devices_lose_more_of_their_rate() -> None:
    """The report is 5 ms old: at 1 m/s still true, at 30 m/s (350 Hz Doppler) of another fade."""

    def mean_rate(speed_m_s: float) -> float:
        ways = still(*[(450.0, 200.0)] * 40)
        scatter = Scatter(scatterer_speed_m_s=speed_m_s)
        channel = small_channel(ways=ways, cells_m=CELLS[:1], **CALM | {"fading": scatter})
        return float(np.mean([channel.state(step * 0.1).rate_bps[:, 0] for step in range(10)]))

    assert mean_rate(30.0) < 0.85 * mean_rate(1.0)


def test_crossing_the_border_hands_over_with_an_outage() -> None:
    across = Way([(0.0, *CELLS[0]), (40.0, *CELLS[1])])  # 10 m/s, half way at 20 s
    rule = HandoverRule(hysteresis_db=3.0, time_to_trigger_s=0.2, interruption_s=0.25)
    channel = small_channel(ways=[across], handover=rule, **CALM)
    states = [channel.state(step * 0.1) for step in range(400)]
    cells = [int(state.cell[0]) for state in states]
    assert cells[0] == 0 and cells[-1] == 1 and sum(np.diff(cells) != 0) == 1
    at = cells.index(1)
    assert 20 < at * 0.1 < 24  # 3 dB and 200 ms later
    assert [bool(state.up.any()) for state in states[at - 1 : at + 4]] == [True, False, False, False, True]
    assert states[at].distance_m[0] == pytest.approx(400 - at * 0.1 * 10, abs=0.01)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"interval_s": 0.001}, "10 ms..1 s"),
        ({"cells_m": []}, "a device and a cell"),
        ({"ways": []}, "a device"),
    ],
)
def test_what_is_no_channel_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ChannelError, match=says):
        small_channel(**changes)


def test_the_interval_changes_the_resolution_and_not_the_way() -> None:
    coarse, fine = small_channel(**CALM), small_channel(interval_s=0.02, **CALM)
    for time_s in (0.0, 1.0, 7.0):
        assert coarse.state(time_s).snr_db == pytest.approx(fine.state(time_s).snr_db)
