"""The `network.power` section: what a device's radio draws, for its energy."""

from __future__ import annotations

from pydantic import Field

from experiments.config_channel import Channel
from experiments.config_section import Section
from experiments.units import Watts, watts

_POWER_CLASS_3_W = watts("23dBm")
"""A handset's: TS 36.101 and TS 38.101-1, table 6.2.1-1."""


class RadioPower(Section):
    transmit: Watts | None = Field(None, gt=0)
    """None: the channel's, or 23 dBm. What is radiated: an amplifier draws two or three times as much."""
    receive: Watts = 0.0
    """By default receiving is not counted."""

    def check(self, channel: Channel | None) -> None:
        """Raises ValueError for a power that is said twice."""
        if self.transmit is not None and channel is not None:
            raise ValueError("power.transmit: comes from network.channel.up.power; leave it out")

    def transmit_w(self, channel: Channel | None) -> float:
        """While a device sends."""
        if channel is not None:
            return watts(f"{channel.up.power}dBm")
        return self.transmit or _POWER_CLASS_3_W
