"""The wireless channel: where devices are -> which cell serves them, at what SNR, rate and loss, over time.

All of it in emulated time and by the seed alone; the wall clock is channel_driver's. Time goes in steps of
`interval_s`. Within a step path loss and shadow hold, and a device moves evenly and fades; the link adapts
every subframe, and the step's rate is their mean. Not modelled: interference, delay of retransmissions,
more antennas, frequency-selective fading (flat fading over a wide band is a hard case: no diversity).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emulation.fading import Fading
from emulation.handover import Handover, HandoverRule
from emulation.link_budget import SPEED_OF_LIGHT_M_S, Bools, ChannelError, Floats, LinkBudget
from emulation.mobility import Point, Way, positions
from emulation.path_loss import PathLoss
from emulation.rate_adaptation import HARQ_ROUND_TRIP, SUBFRAME_S, RateAdaptation
from emulation.shadowing import AlongTheWay, Sight

DIRECTIONS = ("down", "up")
"""The last axis of whatever differs between them."""

_MOST_LOSS = 0.99
"""A link that loses more is down."""
_USES = ("sight", "shadow", "fading")


def rng(seed: int, use: str, device: int) -> np.random.Generator:
    """A generator of its own for every use and device."""
    return np.random.default_rng([seed, device, *use.encode()])


@dataclass(frozen=True)
class Scatter:
    """Rayleigh fading, or Rician with `k_db` wherever the cell is in line of sight.

    `scatterer_speed_m_s` is what moves around a device, and fades it while it stands still.
    """

    k_db: float | None = None
    scatterer_speed_m_s: float = 1.0


@dataclass(frozen=True)
class RadioDirection:
    """One direction of every device's link."""

    budget: LinkBudget
    adaptation: RateAdaptation

    @property
    def least_rate_bps(self) -> float:
        """The lowest rate above 0."""
        return self.adaptation.least_rate_bps(self.budget.bandwidth_hz)


@dataclass(frozen=True)
class ChannelModel:
    """Everything a channel is made of. Raises ChannelError.

    `ways` one per device; `line_of_sight` overrules the LOS probability; `shadowing_db` and `correlation_m`
    overrule the path loss model's; `fading` None: none; `feedback_delay_s`, in whole subframes, how old the
    SNR is that the sender knows. `bands_hz` of shape (devices, 2) by DIRECTIONS: each device's own, where the
    cell's is divided; None: each has all of it while it sends.
    """

    ways: Sequence[Way]
    cells_m: Sequence[Point]
    path_loss: PathLoss
    frequency_hz: float
    down: RadioDirection
    up: RadioDirection
    line_of_sight: bool | None = None
    shadowing_db: float | None = None
    correlation_m: float | None = None
    fading: Scatter | None = field(default_factory=Scatter)
    feedback_delay_s: float = 5e-3
    handover: HandoverRule = field(default_factory=HandoverRule)
    interval_s: float = 0.1
    seed: int = 0
    bands_hz: Floats | None = None

    def __post_init__(self) -> None:
        if not self.ways or not self.cells_m:
            raise ChannelError("a channel needs a device and a cell")
        if self.bands_hz is not None and self.bands_hz.shape != (len(self.ways), 2):
            raise ChannelError(f"bands of shape {self.bands_hz.shape} for {len(self.ways)} devices")
        if not 0.01 <= self.interval_s <= 1:
            raise ChannelError(f"an interval of {self.interval_s:g} s is not in 10 ms..1 s")


@dataclass(frozen=True)
class ChannelState:
    """The channel from `time_s` on, for one interval. Shapes: (devices,), or (devices, 2) by DIRECTIONS.

    `snr_db` is the mean over the step's fading (of the linear ratio). A link that is not `up` has rate 0: out
    of range, or handing over.
    """

    time_s: float
    cell: NDArray[np.int64]
    distance_m: Floats
    line_of_sight: Bools
    path_loss_db: Floats
    shadowing_db: Floats
    snr_db: Floats
    rate_bps: Floats
    loss: Floats
    up: Bools


class Channel:
    """The states of a channel, one after the other."""

    def __init__(self, model: ChannelModel) -> None:
        self.model = model
        devices, cells = len(model.ways), len(model.cells_m)
        sight, shadow, fading = ([rng(model.seed, use, n) for n in range(devices)] for use in _USES)
        self._shadow, self._fading = AlongTheWay(shadow, cells), Fading(fading, cells)
        self._wavelengths = np.zeros(devices)  # that each device, and what is around it, has moved
        self._handover: Handover | None = None
        self._next = 0
        self._here = positions(model.ways, 0.0)
        self._sight = Sight(sight, self._sight_probability(self._distances()))
        self._state = self._advance()

    def state(self, time_s: float) -> ChannelState:
        """The state at a time, however often others were asked for. Time does not go back: ValueError."""
        index = int(np.floor(time_s / self.model.interval_s + 1e-6))
        if index < self._next - 1:
            raise ValueError(f"the channel is past {time_s:g} s, at {self._state.time_s:g} s")
        while self._next <= index:
            self._state = self._advance()
        return self._state

    def _advance(self) -> ChannelState:
        """The next step's state."""
        model, time_s = self.model, self._next * self.model.interval_s
        self._next += 1
        before, self._here = self._here, positions(model.ways, time_s)
        after = positions(model.ways, time_s + model.interval_s)
        distance, sight, loss, shadow = self._large_scale(np.linalg.norm(self._here - before, axis=1))

        received = model.down.budget.power_dbm - loss - shadow
        if self._handover is None:
            self._handover = Handover(model.handover, received)
        interrupted = self._handover.step(time_s, received)
        serving = self._handover.serving
        chosen = np.arange(len(serving)), serving

        moved = np.linalg.norm(after - self._here, axis=1)
        tries, reported = self._fade(serving, sight[chosen], moved / model.interval_s)
        behind = loss[chosen] + shadow[chosen]
        snr_db, rate, lost = (np.empty((len(serving), 2)) for _ in range(3))
        for side, radio in enumerate((model.down, model.up)):
            bands = None if model.bands_hz is None else model.bands_hz[:, side]
            mean_db = radio.budget.snr_db(behind, bands)
            snr_db[:, side] = mean_db + _decibels(tries[0, ..., side].mean(axis=0))
            rates, losses = radio.adaptation.serve(
                mean_db + _decibels(tries[: radio.adaptation.tries, ..., side]),
                mean_db + _decibels(reported[..., side]),
                radio.budget.bandwidth_hz if bands is None else bands,
            )
            rate[:, side] = rates.mean(axis=0)
            lost[:, side] = (rates * losses).mean(axis=0) / np.maximum(rate[:, side], 1e-9)
        up = (rate > 0) & (lost <= _MOST_LOSS) & ~interrupted[:, None]
        return ChannelState(
            time_s=time_s,
            cell=serving,
            distance_m=distance[chosen],
            line_of_sight=sight[chosen],
            path_loss_db=loss[chosen],
            shadowing_db=shadow[chosen],
            snr_db=snr_db,
            rate_bps=np.where(up, rate, 0.0),
            loss=np.where(up, lost, 0.0),
            up=up,
        )

    def _large_scale(self, moved_m: Floats) -> tuple[Floats, Bools, Floats, Floats]:
        """Distance, LOS, mean loss and shadow of every device and cell, after everyone has moved."""
        model, path_loss = self.model, self.model.path_loss
        distance = self._distances()
        self._sight.move(moved_m, self._sight_probability(distance))
        sight = self._sight.now
        correlation = np.where(sight, *path_loss.correlation_m)
        self._shadow.move(moved_m, correlation if model.correlation_m is None else model.correlation_m)
        deviation = np.where(sight, *path_loss.shadowing_db)
        if model.shadowing_db is not None:
            deviation = np.full(distance.shape, model.shadowing_db)
        return distance, sight, path_loss.loss_db(distance, sight), deviation * self._shadow.values

    def _distances(self) -> Floats:
        return np.asarray(np.linalg.norm(self._here[:, None] - np.array(self.model.cells_m)[None], axis=2))

    def _sight_probability(self, distance_m: Floats) -> Floats:
        if self.model.line_of_sight is None:
            return self.model.path_loss.line_of_sight_probability(distance_m)
        return np.full(distance_m.shape, float(self.model.line_of_sight))

    def _fade(self, cell: NDArray[np.int64], sight: Bools, speed_m_s: Floats) -> tuple[Floats, Floats]:
        """Power gain of a step, by subframe in which a block is first sent, device and direction.

        As each try of the block meets it, in an axis in front; and as it was last reported.
        """
        model, scatter = self.model, self.model.fading
        tries = max(model.down.adaptation.tries, model.up.adaptation.tries)
        if scatter is None:
            return np.ones((tries, 1, len(cell), 2)), np.ones((1, len(cell), 2))
        doppler_hz = (speed_m_s + scatter.scatterer_speed_m_s) * model.frequency_hz / SPEED_OF_LIGHT_M_S
        subframes, delay = round(model.interval_s / SUBFRAME_S), round(model.feedback_delay_s / SUBFRAME_S)
        times = delay + subframes + (tries - 1) * HARQ_ROUND_TRIP
        k = np.zeros(len(cell)) if scatter.k_db is None else np.where(sight, 10 ** (scatter.k_db / 10), 0.0)
        pace = doppler_hz * SUBFRAME_S
        power = np.abs(self._fading.gain(self._wavelengths - delay * pace, pace, times, cell, k)) ** 2
        self._wavelengths = self._wavelengths + model.interval_s * doppler_hz
        sent = [delay + number * HARQ_ROUND_TRIP for number in range(tries)]
        return np.stack([power[first : first + subframes] for first in sent]), power[:subframes]


def _decibels(ratio: Floats) -> Floats:
    return 10 * np.log10(np.maximum(ratio, 1e-30))
