"""The `network.channel` section: a wireless channel in place of links' rates, and how it becomes one.

A device's `up` and `down` then say everything else of its link; rate, trace and loss are the channel's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from emulation import channel as emulated
from emulation.backend import Direction
from emulation.handover import HandoverRule
from emulation.link import Air, Scheduler
from emulation.link_budget import ChannelError, Floats, LinkBudget
from emulation.mobility import Way, random_point, random_waypoint, read_positions
from emulation.path_loss import LogDistance, Macro, PathLoss, Urban
from emulation.rate_adaptation import CAPACITY, CQI_DOWN, CQI_UP, SHANNON_DOWN, SHANNON_UP, RateAdaptation
from experiments.config_section import Section
from experiments.units import Decibel, Distance, Duration, Frequency, Power, Speed


def _refuse_others(section: Section, known: set[str], what: str) -> None:
    for key in sorted(_given(section) - known):
        raise ValueError(f"{key}: {what} has no such setting")


def _given(section: Section) -> set[str]:
    """What differs from its default: a manifest spells out every default."""
    fields = type(section).model_fields
    return {key for key in fields if getattr(section, key) != fields[key].default}


_ADAPTATIONS: dict[str, tuple[RateAdaptation, RateAdaptation]] = {
    "cqi": (CQI_DOWN, CQI_UP),
    "shannon": (SHANNON_DOWN, SHANNON_UP),
    "capacity": (CAPACITY, CAPACITY),
}


class Place(Section):
    """A point of the map, which begins at (0, 0)."""

    x: Distance
    y: Distance


class Map(Section):
    width: Distance = Field(500.0, gt=0)
    height: Distance = Field(500.0, gt=0)


class PathLossModel(Section):
    """Mean loss by distance; see emulation/path_loss.py."""

    model: Literal["uma", "umi", "macro", "log_distance"] = "uma"
    line_of_sight: Literal["random", "always", "never"] = "random"
    """`random`: by the model's probability, correlated over 50 m."""
    device_height: Distance = 1.5
    exponent: float = Field(3.5, gt=0)
    reference_distance: Distance = Field(1.0, gt=0)
    reference_loss: Decibel | None = None
    """None: free space's."""

    @model_validator(mode="after")
    def _takes_what_is_given(self) -> Self:
        """A key that the model does not know would be silently ignored."""
        known = {
            "uma": {"line_of_sight", "device_height"},
            "umi": {"line_of_sight", "device_height"},
            "macro": set[str](),
            "log_distance": {"exponent", "reference_distance", "reference_loss"},
        }[self.model]
        _refuse_others(self, known | {"model"}, f"model {self.model}")
        return self

    def build(self, frequency_hz: float) -> PathLoss:
        """Raises ChannelError."""
        match self.model:
            case "macro":
                return Macro(frequency_hz)
            case "log_distance":
                return LogDistance(frequency_hz, self.exponent, self.reference_distance, self.reference_loss)
            case _:
                return Urban(self.model, frequency_hz, self.device_height)


class Mobility(Section):
    """Where devices are; see emulation/mobility.py."""

    model: Literal["static", "random_waypoint", "trace"] = "static"
    positions: list[Place] | None = None
    """Where each device is, or starts; None: anywhere on the map, by the seed."""
    speed_min: Speed = Field(1.0, gt=0)
    speed_max: Speed = Field(1.0, gt=0)
    pause: Duration = 0.0
    file: Path | None = None
    """CSV: time_s,device,x_m,y_m."""

    @model_validator(mode="after")
    def _takes_what_is_given(self) -> Self:
        known = {
            "static": {"positions"},
            "random_waypoint": {"positions", "speed_min", "speed_max", "pause"},
            "trace": {"file"},
        }[self.model]
        _refuse_others(self, known | {"model"}, f"mobility {self.model}")
        if self.speed_max < self.speed_min:
            raise ValueError("speed_max: is below speed_min")
        if self.model == "trace" and self.file is None:
            raise ValueError("file: mobility trace needs a file of positions")
        return self


class Shadowing(Section):
    """Log-normal; None: what goes with the path loss model."""

    deviation: Decibel | None = Field(None, ge=0)
    correlation_distance: Distance | None = Field(None, gt=0)


class Fading(Section):
    """Flat fading; see emulation/fading.py."""

    model: Literal["none", "rayleigh", "rician"] = "rayleigh"
    k_factor: Decibel = 9.0
    """Rician, in line of sight only; the default is TR 38.901's mean (table 7.5-6, UMa and UMi)."""
    scatterer_speed: Speed = 1.0
    """Of what moves around the devices."""

    @model_validator(mode="after")
    def _takes_what_is_given(self) -> Self:
        known = {"none": set[str](), "rayleigh": {"scatterer_speed"}}.get(self.model)
        if known is not None:
            _refuse_others(self, known | {"model"}, f"fading {self.model}")
        return self

    def build(self) -> emulated.Scatter | None:
        """None: no fading."""
        if self.model == "none":
            return None
        return emulated.Scatter(self.k_factor if self.model == "rician" else None, self.scatterer_speed)


class RadioDirection(Section):
    """One direction: what its sender has, and its receiver."""

    power: Power
    bandwidth: Frequency = Field(20e6, gt=0)
    """What a device has while it sends: `network.sharing` says with whom it shares."""
    noise_figure: Decibel = Field(ge=0)


class Downlink(RadioDirection):
    power: Power = 46.0
    noise_figure: Decibel = Field(9.0, ge=0)


class Uplink(RadioDirection):
    power: Power = 23.0
    noise_figure: Decibel = Field(5.0, ge=0)


class Handover(Section):
    """Event A3; see emulation/handover.py."""

    hysteresis: Decibel = Field(3.0, ge=0)
    time_to_trigger: Duration = 0.16
    interruption: Duration = 0.05


class Channel(Section):
    """A wireless channel. Defaults are 3GPP's usual urban macro cell at 3.5 GHz."""

    path_loss: PathLossModel = PathLossModel()
    frequency: Frequency = Field(3.5e9, gt=0)
    map: Map = Map()
    cells: list[Place] | None = Field(None, min_length=1)
    """None: one in the middle of the map."""
    mobility: Mobility = Mobility()
    down: Downlink = Downlink()
    up: Uplink = Uplink()
    antenna_gain: Decibel = 0.0
    """Of both ends together."""
    shadowing: Shadowing = Shadowing()
    fading: Fading = Fading()
    rate: Literal["shannon", "cqi", "capacity"] = "cqi"
    """See emulation/rate_adaptation.py."""
    feedback_delay: Duration = 5e-3
    """Age of the SNR that modulation and coding are chosen by; only `cqi` cares."""
    handover: Handover = Handover()
    interval: Duration = Field(0.1, ge=0.01, le=1.0)
    """How often links are commanded."""
    seed: int = Field(0, ge=0, lt=2**32)
    """The experiment's where it is left out."""

    @model_validator(mode="after")
    def _fits_the_map(self) -> Self:
        places = [("cells", number, place) for number, place in enumerate(self.cells or [])]
        places += [("mobility.positions", n, place) for n, place in enumerate(self.mobility.positions or [])]
        for key, number, place in places:
            if not (0 <= place.x <= self.map.width and 0 <= place.y <= self.map.height):
                raise ValueError(
                    f"{key}.{number}: ({place.x:g} m, {place.y:g} m) is outside the map of "
                    f"{self.map.width:g} x {self.map.height:g} m"
                )
        farthest = self.path_loss.build(self.frequency).farthest_m
        corners = [(x, y) for x in (0, self.map.width) for y in (0, self.map.height)]
        reach = max(float(np.hypot(x - a, y - b)) for a, b in self._cells_m for x, y in corners)
        if reach > farthest:
            raise ValueError(
                f"map: reaches {reach:g} m from a cell; {self.path_loss.model} holds up to {farthest:g} m"
            )
        return self

    def airs(self, sharing: Literal["none"] | Scheduler) -> tuple[Air, ...]:
        """The air of each of several cells, for links to move between; none where they share none.

        Raises ValueError for shares that would be a part of nobody knows how many.
        """
        cells = len(self._cells_m)
        if sharing == "none" or cells == 1:
            return ()
        if sharing == "fixed":
            raise ValueError(
                f"sharing: fixed is 1/n for good, and n changes with every handover between {cells} cells; "
                "use round_robin or proportional_fair, or give the channel one cell"
            )
        return tuple(Air(f"cell {number}", sharing) for number in range(cells))

    def build(self, devices: Sequence[str], bands_hz: Floats | None = None) -> emulated.Channel:
        """The channel at time 0, of devices in this order; for `bands_hz` see ChannelModel.

        Raises ChannelError.
        """
        down, up = _ADAPTATIONS[self.rate]
        model = emulated.ChannelModel(
            ways=self._ways(devices),
            cells_m=self._cells_m,
            path_loss=self.path_loss.build(self.frequency),
            frequency_hz=self.frequency,
            down=emulated.RadioDirection(self._budget(self.down), down),
            up=emulated.RadioDirection(self._budget(self.up), up),
            line_of_sight={"random": None, "always": True, "never": False}[self.path_loss.line_of_sight],
            shadowing_db=self.shadowing.deviation,
            correlation_m=self.shadowing.correlation_distance,
            fading=self.fading.build(),
            feedback_delay_s=self.feedback_delay,
            handover=HandoverRule(
                self.handover.hysteresis, self.handover.time_to_trigger, self.handover.interruption
            ),
            interval_s=self.interval,
            seed=self.seed,
            bands_hz=bands_hz,
        )
        return emulated.Channel(model)

    def spectrum(self, way: str, devices: Sequence[str]) -> tuple[float, Floats]:
        """A direction's bandwidth, and p h / N0 of every device where it begins, without fading; in Hz."""
        channel = self.build(devices)
        state = channel.state(0.0)
        budget = (channel.model.down if way == "down" else channel.model.up).budget
        return budget.bandwidth_hz, budget.snr_hz(state.path_loss_db + state.shadowing_db)

    @property
    def _cells_m(self) -> list[tuple[float, float]]:
        if self.cells is None:
            return [(self.map.width / 2, self.map.height / 2)]
        return [(cell.x, cell.y) for cell in self.cells]

    def _budget(self, radio: RadioDirection) -> LinkBudget:
        return LinkBudget(radio.power, radio.bandwidth, radio.noise_figure, self.antenna_gain)

    def _ways(self, devices: Sequence[str]) -> list[Way]:
        mobility, area = self.mobility, (self.map.width, self.map.height)
        if mobility.file is not None:
            return read_positions(mobility.file, devices, area)
        rngs = [emulated.rng(self.seed, "mobility", number) for number in range(len(devices))]
        starts = [random_point(area, rng) for rng in rngs]
        if mobility.positions is not None:
            if len(mobility.positions) != len(devices):
                raise ChannelError(
                    f"mobility.positions: {len(mobility.positions)} places for {len(devices)} devices"
                )
            starts = [(place.x, place.y) for place in mobility.positions]
        if mobility.model == "static":
            return [Way([(0.0, *start)]) for start in starts]
        speeds = (mobility.speed_min, mobility.speed_max)
        return [
            Way(random_waypoint(start, area, speeds, mobility.pause, rng))
            for start, rng in zip(starts, rngs, strict=True)
        ]


@dataclass(frozen=True)
class Start:
    """(device, "up" or "down") -> rate in bit/s and loss that its link is built with; device -> its cell."""

    links: Mapping[Direction, tuple[float, float]]
    cells: Mapping[str, int]


def start(channel: emulated.Channel, devices: Sequence[str]) -> Start:
    """What the links of these devices begin with.

    Those of time 0; a link that is then out of range gets the lowest rate there is, and is taken down by
    the driver's first step.
    """
    state = channel.state(0.0)
    least = [channel.model.down.least_rate_bps, channel.model.up.least_rate_bps]
    links = {
        (device, direction): (
            float(state.rate_bps[number, side] or least[side]),
            float(state.loss[number, side]),
        )
        for number, device in enumerate(devices)
        for side, direction in enumerate(emulated.DIRECTIONS)
    }
    return Start(links, {device: int(cell) for device, cell in zip(devices, state.cell, strict=True)})


def refuse_own_rate(where: str, given: Section | None) -> None:
    """Raises ValueError for an `up` or `down` (config_network.Direction) that says what the channel says."""
    if given is None:
        return
    for key in _given(given) & {"rate", "trace", "loss", "loss_burst"}:
        raise ValueError(f"{where}.{key}: comes from network.channel; leave it out")
