"""Mean loss between a cell and a device by distance, and how much it is shadowed.

Every model gives the loss with and without line of sight (LOS), the probability of LOS, and the standard
deviation and correlation distance of its log-normal shadowing, LOS first. Distances are horizontal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from emulation.link_budget import SPEED_OF_LIGHT_M_S, Bools, ChannelError, Floats


class PathLoss(Protocol):
    """A model of the mean loss."""

    @property
    def shadowing_db(self) -> tuple[float, float]:
        """Standard deviation of shadowing with and without LOS."""

    @property
    def correlation_m(self) -> tuple[float, float]:
        """Distance over which shadowing's correlation falls to 1/e, with and without LOS."""

    @property
    def farthest_m(self) -> float:
        """Beyond this distance the model says nothing."""

    def loss_db(self, distance_m: Floats, line_of_sight: Bools) -> Floats:
        """Mean path loss; any shapes that broadcast."""

    def line_of_sight_probability(self, distance_m: Floats) -> Floats:
        """In 0..1; 1 for a model that makes no difference."""


@dataclass(frozen=True)
class _Row:
    """A scenario's rows of 3GPP TR 38.901, tables 7.4.1-1, 7.4.2-1 and 7.5-6."""

    base_height_m: float
    los_db: float
    los_slope: float
    breakpoint_slope: float
    nlos_db: float
    nlos_slope: float
    nlos_frequency_slope: float
    nlos_height_slope: float
    los_decay_m: float
    shadowing_db: tuple[float, float]
    correlation_m: tuple[float, float]


_ROWS = {
    "uma": _Row(25.0, 28.0, 22.0, 9.0, 13.54, 39.08, 20.0, 0.6, 63.0, (4.0, 6.0), (37.0, 50.0)),
    "umi": _Row(10.0, 32.4, 21.0, 9.5, 22.4, 35.3, 21.3, 0.3, 36.0, (4.0, 7.82), (10.0, 13.0)),
}
_NEAREST_M = 10.0
_ENVIRONMENT_HEIGHT_M = 1.0


@dataclass(frozen=True)
class Urban:
    """3GPP TR 38.901: urban macro (`uma`) and urban micro, street canyon (`umi`), outdoors, 0.5-100 GHz.

    Devices are lower than 13 m, where the effective environment height is 1 m and the LOS probability has
    no term in the device's height. Nearer than 10 m counts as 10 m. Raises ChannelError.
    """

    scenario: Literal["uma", "umi"]
    frequency_hz: float
    device_height_m: float = 1.5
    farthest_m = 5000.0

    def __post_init__(self) -> None:
        if not 0.5e9 <= self.frequency_hz <= 100e9:
            raise ChannelError(
                f"{self.scenario} holds from 0.5 to 100 GHz, not {self.frequency_hz / 1e9:g} GHz"
            )
        if not 1.5 <= self.device_height_m < 13:
            raise ChannelError(
                f"{self.scenario} takes devices from 1.5 to 13 m, not {self.device_height_m:g} m"
            )

    @property
    def shadowing_db(self) -> tuple[float, float]:
        return self._row.shadowing_db

    @property
    def correlation_m(self) -> tuple[float, float]:
        return self._row.correlation_m

    @property
    def breakpoint_m(self) -> float:
        """d'_BP = 4 h'_BS h'_UT f / c, where the LOS loss begins to fall off with the fourth power."""
        base, device = (h - _ENVIRONMENT_HEIGHT_M for h in (self._row.base_height_m, self.device_height_m))
        return 4 * base * device * self.frequency_hz / SPEED_OF_LIGHT_M_S

    def loss_db(self, distance_m: Floats, line_of_sight: Bools) -> Floats:
        row, frequency_db = self._row, np.log10(self.frequency_hz / 1e9)
        flat = np.maximum(distance_m, _NEAREST_M)
        rise = row.base_height_m - self.device_height_m
        slope = np.log10(np.hypot(flat, rise))
        near = row.los_db + row.los_slope * slope + 20 * frequency_db
        corner = row.breakpoint_slope * np.log10(self.breakpoint_m**2 + rise**2)
        far = row.los_db + 40 * slope + 20 * frequency_db - corner
        los = np.where(flat <= self.breakpoint_m, near, far)
        nlos = row.nlos_db + row.nlos_slope * slope + row.nlos_frequency_slope * frequency_db
        nlos -= row.nlos_height_slope * (self.device_height_m - 1.5)
        return np.where(line_of_sight, los, np.maximum(los, nlos))

    def line_of_sight_probability(self, distance_m: Floats) -> Floats:
        near = 18 / np.maximum(distance_m, 18.0)
        return near + np.exp(-np.maximum(distance_m, 18.0) / self._row.los_decay_m) * (1 - near)

    @property
    def _row(self) -> _Row:
        return _ROWS[self.scenario]


@dataclass(frozen=True)
class Macro:
    """128.1 + 37.6 log10(d / km): macro cells at 2 GHz, base station 15 m above the roofs.

    3GPP TR 36.942, section 4.5.2, and TR 36.814, table A.2.1.1-2, which add 8 dB of shadowing, correlated
    over 50 m, and keep devices at 35 m or more: nearer counts as 35 m. LOS makes no difference.
    """

    frequency_hz: float = 2e9
    shadowing_db = (8.0, 8.0)
    correlation_m = (50.0, 50.0)
    farthest_m = np.inf

    def __post_init__(self) -> None:
        if not np.isclose(self.frequency_hz, 2e9, rtol=0.1):
            raise ChannelError(f"128.1 + 37.6 log10(d) is for 2 GHz, not {self.frequency_hz / 1e9:g} GHz")

    def loss_db(self, distance_m: Floats, line_of_sight: Bools) -> Floats:
        return 128.1 + 37.6 * np.log10(np.maximum(distance_m, 35.0) / 1e3) + 0 * line_of_sight

    def line_of_sight_probability(self, distance_m: Floats) -> Floats:
        return np.ones_like(distance_m)


@dataclass(frozen=True)
class LogDistance:
    """loss at d0 + 10 n log10(d / d0) (Rappaport, Wireless Communications, 2nd edition, section 4.9.1).

    `reference_db` at `reference_m`; None: free space's (4 pi d0 f / c)^2. Nearer than d0 counts as d0.
    No shadowing of its own.
    """

    frequency_hz: float
    exponent: float = 3.5
    reference_m: float = 1.0
    reference_db: float | None = None
    shadowing_db = (0.0, 0.0)
    correlation_m = (50.0, 50.0)
    farthest_m = np.inf

    def __post_init__(self) -> None:
        if not (self.exponent > 0 and self.reference_m > 0):
            raise ChannelError("log-distance needs an exponent and a reference distance above 0")

    def loss_db(self, distance_m: Floats, line_of_sight: Bools) -> Floats:
        reference = self.reference_db
        if reference is None:
            reference = 20 * np.log10(4 * np.pi * self.reference_m * self.frequency_hz / SPEED_OF_LIGHT_M_S)
        steps = np.log10(np.maximum(distance_m, self.reference_m) / self.reference_m)
        return reference + 10 * self.exponent * steps + 0 * line_of_sight

    def line_of_sight_probability(self, distance_m: Floats) -> Floats:
        return np.ones_like(distance_m)
