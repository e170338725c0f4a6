"""The `network.cell` section: how a cell that is divided for good is divided, and what comes of it.

With `network.channel` devices get bands of their own (frequency division): all of a device's power is in its
band, and the noise is that of its band alone, so its rate is b log2(1 + p h / (N0 b)) and not a share of what
it would have with the whole band. Links with rates of their own share the airtime (time division): a share of
the time is the same share of the rate.

Each direction is divided by itself, down first. What a device's round takes beside a transfer is when it is
ready for it: computing, for the way down; for the way up the way down too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emulation.link import AccessLink
from experiments.allocation import (
    Airtimes,
    Allocation,
    AllocationError,
    Bands,
    Demand,
    Floats,
    Policy,
    Spectrum,
    allocate,
)
from experiments.config_channel import Channel
from experiments.config_section import Section

Way = Literal["down", "up"]
WAYS: tuple[Way, Way] = ("down", "up")


_LEAST_SNR = 1e-4
"""Below that in the whole band a channel is down (emulation.rate_adaptation.CAPACITY)."""


@dataclass(frozen=True)
class DeviceNeeds:
    """What a usual round asks of a device's link, and its training."""

    down_bytes: float
    up_bytes: float
    compute_s: float


@dataclass(frozen=True)
class Division:
    """A divided cell: every device's part in each direction, Hz or a share of the airtime."""

    policy: Policy
    devices: tuple[str, ...]
    ways: Mapping[Way, Allocation]
    in_hz: bool

    def part(self, device: str, way: Way) -> float:
        return self.ways[way].parts[self.devices.index(device)]

    @property
    def bands_hz(self) -> Floats | None:
        """Of shape (devices, 2), down and up as emulation.channel.DIRECTIONS; None: airtime is divided."""
        return np.array([self.ways[way].parts for way in WAYS]).T if self.in_hz else None

    def describe(self) -> dict[str, Any]:
        """As JSON: who got what, and when the model has each done, in seconds of a usual round."""
        unit = "bandwidth_hz" if self.in_hz else "airtime"
        rows: dict[str, Any] = {}
        for way, allocation in self.ways.items():
            columns = zip(
                self.devices, allocation.parts, allocation.rates_bps, allocation.finish_s, strict=True
            )
            rows[way] = {
                device: {unit: part, "rate_bps": rate, "done_s": done} for device, part, rate, done in columns
            }
        return {"policy": self.policy, **rows}


def _divide(
    policy: Policy,
    links: Sequence[AccessLink],
    spectra: Mapping[Way, Spectrum],
    needs: Sequence[DeviceNeeds],
) -> Division:
    """Divide both directions among the devices of these links. Raises AllocationError."""
    devices = tuple(link.device for link in links)
    for device, need in zip(devices, needs, strict=True):
        if not (need.down_bytes > 0 and need.up_bytes > 0):
            raise AllocationError(
                f"{device}: sends or receives nothing in a usual round, but TCP needs both ways: who has no "
                "part of the cell cannot even acknowledge"
            )

    def allocated(way: Way, sizes: list[float], ready_s: Sequence[float]) -> Allocation:
        demands = [Demand(*one) for one in zip(devices, sizes, ready_s, strict=True)]
        return allocate(policy, spectra[way], demands)

    beside_s = [link.down.delay_s + need.compute_s for link, need in zip(links, needs, strict=True)]
    down = allocated("down", [8 * need.down_bytes for need in needs], beside_s)
    ready_s = [done + link.up.delay_s for link, done in zip(links, down.finish_s, strict=True)]
    up = allocated("up", [8 * need.up_bytes for need in needs], ready_s)
    return Division(policy, devices, {"down": down, "up": up}, isinstance(spectra["up"], Bands))


class Cell(Section):
    allocation: Policy
    """See experiments/allocation.py."""

    def check(self, topology: str, sharing: str, channel: Channel | None, *, traced: bool) -> None:
        """Raises ValueError for a network whose cell cannot be divided for good."""
        if sharing != "fixed":
            raise ValueError(f"cell: says how sharing=fixed divides it, and sharing is {sharing}")
        if topology != "cell":
            raise ValueError("cell: goes with topology cell")
        if traced:
            raise ValueError(
                "cell: a trace says itself when a device may send; give links a rate or a channel"
            )
        if channel is None:
            return
        if channel.mobility.model != "static":
            raise ValueError("cell: is divided once, by where devices are: channel.mobility.model=static")
        if channel.rate != "capacity":
            raise ValueError(
                "cell: is divided by Shannon's bound, b log2(1 + p h/(N0 b)): channel.rate=capacity"
            )

    def divide(
        self, links: Sequence[AccessLink], channel: Channel | None, needs: Sequence[DeviceNeeds]
    ) -> Division:
        """Among the devices of these links, each with all of its rate. Raises AllocationError."""
        names = [link.device for link in links]
        spectra: dict[Way, Spectrum] = {}
        for way in WAYS:
            if channel is None:
                spectra[way] = Airtimes(np.array([getattr(link, way).rate_bps for link in links]))
                continue
            whole_hz, snr_hz = channel.spectrum(way, names)
            if (lost := np.flatnonzero(snr_hz < _LEAST_SNR * whole_hz)).size:
                raise AllocationError(f"{names[lost[0]]}: {way}, it is out of the cell's range (-40 dB)")
            spectra[way] = Bands(whole_hz, snr_hz)
        return _divide(self.allocation, links, spectra, needs)
