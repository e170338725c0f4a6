"""Traces carry what the channel would have carried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation.channel import RadioDirection
from emulation.link import FRAME_BYTES
from emulation.link_budget import ChannelError, LinkBudget
from emulation.rate_adaptation import CqiTable
from emulation.trace import read_mahimahi, write_mahimahi
from emulation.trace_generator import deliveries, generate
from tests.emulation.channels import small_channel, still

FRAME_BITS = 8 * FRAME_BYTES


def test_a_steady_rate_is_evenly_spaced() -> None:
    trace = deliveries("x", np.full(10, FRAME_BITS * 100.0), 0.1)  # 100 frames a second
    assert trace.deliveries_ms == tuple(range(10, 1001, 10))
    assert trace.mean_rate_bps == FRAME_BITS * 100


def test_an_outage_delivers_nothing_and_the_next_frame_only_after_it() -> None:
    rates = FRAME_BITS * np.array([15.0, 0.0, 0.0, 15.0])  # 1.5 frames, none, none, 1.5
    assert deliveries("x", rates, 0.1).deliveries_ms == (67, 334, 400)


def test_a_rate_that_ends_early_keeps_the_period() -> None:
    trace = deliveries("x", FRAME_BITS * np.array([20.0, 0.0]), 0.1)
    assert trace.deliveries_ms == (50, 200)
    assert trace.mean_rate_bps == FRAME_BITS * 10


@given(st.lists(st.floats(0, 100e6), min_size=1, max_size=30))
def test_the_mean_rate_is_kept_within_a_frame(rates: list[float]) -> None:
    bits = sum(rates) * 0.1
    if bits < FRAME_BITS:
        with pytest.raises(ChannelError, match="not one frame"):
            deliveries("x", np.array(rates), 0.1)
        return
    trace = deliveries("x", np.array(rates), 0.1)
    assert trace.deliveries_ms[-1] == len(rates) * 100
    assert 0 <= bits / FRAME_BITS - len(trace.deliveries_ms) < 1 + 1e-5
    assert list(trace.deliveries_ms) == sorted(trace.deliveries_ms) and trace.deliveries_ms[0] >= 0


def test_a_channel_s_traces_read_back_with_its_mean_rate(tmp_path: Path) -> None:
    """Of the frames that get through: with one try a block, the uplink loses a good part."""
    lossy: dict[str, Any] = {
        "up": RadioDirection(LinkBudget(23.0, 5e6, 5.0), CqiTable(overhead=0.08, tries=1)),
        "ways": still((300.0, 380.0), (350.0, 0.0)),
    }
    traces = generate(small_channel(**lossy), ["dev0", "dev1"], 5.0)
    assert set(traces) == {(device, way) for device in ("dev0", "dev1") for way in ("down", "up")}
    channel = small_channel(**lossy)
    states = [channel.state(step * 0.1) for step in range(50)]
    assert np.mean([state.loss[:, 1] for state in states]) > 0.05
    for number in range(2):
        for side, way in enumerate(("down", "up")):
            expected = np.mean([s.rate_bps[number, side] * (1 - s.loss[number, side]) for s in states])
            file = tmp_path / f"dev{number}-{way}"
            write_mahimahi(file, traces[f"dev{number}", way])
            again = read_mahimahi(file)
            assert again.deliveries_ms[-1] == 5000
            assert expected - FRAME_BITS / 5 <= again.mean_rate_bps <= expected * (1 + 1e-9)
