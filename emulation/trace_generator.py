"""From a channel to Mahimahi's packet-delivery traces, which other emulators replay too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emulation.backend import Direction
from emulation.channel import DIRECTIONS, Channel
from emulation.link import FRAME_BYTES, Trace
from emulation.link_budget import ChannelError, Floats


def generate(channel: Channel, devices: Sequence[str], duration_s: float) -> dict[Direction, Trace]:
    """Each direction's trace over the channel's first `duration_s`; a trace has no loss, so frames lost are
    deliveries left out. Raises ChannelError where not one frame would be delivered.
    """
    interval_s = channel.model.interval_s
    steps = max(1, round(duration_s / interval_s))
    states = [channel.state(step * interval_s) for step in range(steps)]
    rates = np.array([state.rate_bps * (1 - state.loss) for state in states])
    return {
        (device, direction): deliveries(f"{device}-{direction}", rates[:, number, side], interval_s)
        for number, device in enumerate(devices)
        for side, direction in enumerate(DIRECTIONS)
    }


def deliveries(name: str, rates_bps: Floats, interval_s: float) -> Trace:
    """A frame leaves whenever the rates have carried its bits, in the millisecond that is then under way.

    The period is the whole of `rates_bps`: the last delivery is put off to its end.
    """
    period_ms = round(len(rates_bps) * interval_s * 1e3)
    carried = np.concatenate([[0.0], np.cumsum(rates_bps)]) * interval_s / (8 * FRAME_BYTES)
    frames = np.arange(1.0, int(carried[-1] + 1e-6) + 1)  # Rounding may not lose a last one that just fits.
    frames = np.minimum(frames, carried[-1])
    if not len(frames):
        raise ChannelError(f"{name}: not one frame gets through in {period_ms / 1e3:g} s")
    step = np.searchsorted(carried, frames) - 1
    times_s = (step + (frames - carried[step]) / (carried[step + 1] - carried[step])) * interval_s
    times_ms = np.ceil(times_s * 1e3 - 1e-6).astype(int)
    times_ms[-1] = period_ms
    return Trace(name, tuple(int(time) for time in times_ms))
