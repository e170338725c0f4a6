"""Drives a running network's links by a channel: one step of it every interval of the wall clock.

What the emulation promises of a link holds between two changes; how well the channel is followed is told
here: every step that came late is counted, and too many make the run invalid.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from emulation.backend import Direction
from emulation.channel import DIRECTIONS, Channel, ChannelState
from emulation.link import Air, LinkChange

_MOST_LATE = 0.01
"""Share of steps that may come more than an interval late."""
_LEAST_LOSS = 1e-6
"""A difference of loss too small to send."""


class Changeable(Protocol):
    """The part of a network that is driven."""

    def change(self, device: str, direction: str, change: LinkChange) -> None:
        """Put a change in force now, keeping the backlog."""


@dataclass(frozen=True)
class Command:
    """A state that was put in force, between `begun_s` and `done_s` (CLOCK_MONOTONIC).

    `in_force` what each direction was told to be by then, in real bit/s: small changes are not sent, and a
    link that is down keeps its rate and loss for when it comes back.
    """

    begun_s: float
    done_s: float
    state: ChannelState
    in_force: Mapping[Direction, LinkChange]


Record = Callable[[Command], None]


class ChannelDriver:
    """A thread that commands the network, from `with` to the block's end.

    `devices` in the channel's order; `airs` by the channel's cells, where links share them: a link moves to
    its serving cell's with the handover. A rate or loss is sent when it differs from the last sent by more
    than the share `epsilon` of it. `dilation` real seconds make an emulated one: the channel runs that
    much slower, and rates are divided by it.
    """

    def __init__(
        self,
        channel: Channel,
        network: Changeable,
        devices: Sequence[str],
        record: Record,
        *,
        airs: Sequence[Air] = (),
        dilation: float = 1.0,
        epsilon: float = 0.01,
    ) -> None:
        if len(devices) != len(channel.model.ways):
            raise ValueError(f"a channel of {len(channel.model.ways)} devices cannot drive {len(devices)}")
        if airs and len(airs) != len(channel.model.cells_m):
            raise ValueError(f"{len(airs)} airs for a channel of {len(channel.model.cells_m)} cells")
        self._channel, self._network, self._devices, self._record = channel, network, devices, record
        self._airs = airs
        self._dilation, self._epsilon = dilation, epsilon
        self._sent: dict[Direction, LinkChange] = {}
        self._steps = self._late = 0
        self._worst_late_s = 0.0
        self._failure: str | None = None
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._drive, name="channel", daemon=True)

    def __enter__(self) -> ChannelDriver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join()

    def violations(self) -> list[str]:
        """Reasons why the links did not follow the channel; empty if they did."""
        found = (
            [] if self._failure is None else [f"channel: {self._failure}; its links stood still after that"]
        )
        if self._late > max(1, _MOST_LATE * self._steps):
            found.append(
                f"channel: {self._late} of {self._steps} steps came more than an interval late, "
                f"up to {self._worst_late_s:.3f} s; a longer network.channel.interval would fit this machine"
            )
        return found

    def _drive(self) -> None:
        """Step after step until told to leave. Steps missed meanwhile are left out, and counted."""
        interval_s = self._channel.model.interval_s * self._dilation
        start, index = time.monotonic(), 0
        try:
            while True:
                self._apply(self._channel.state(index * self._channel.model.interval_s))
                late_s = time.monotonic() - start - index * interval_s
                missed = int(late_s / interval_s)
                self._steps += 1 + missed
                self._late += missed
                self._worst_late_s = max(self._worst_late_s, late_s)
                index += 1 + missed
                if self._leave.wait(start + index * interval_s - time.monotonic()):
                    return
        except Exception as error:  # A thread has nobody to raise to: the run is told by violations().
            self._failure = " ".join(f"{type(error).__name__}: {error}".split())

    def _apply(self, state: ChannelState) -> None:
        begun_s = time.monotonic()
        for number, device in enumerate(self._devices):
            air = self._airs[state.cell[number]] if self._airs else None
            for side, direction in enumerate(DIRECTIONS):
                up = bool(state.up[number, side])
                rate = float(state.rate_bps[number, side]) / self._dilation if up else None
                loss = float(state.loss[number, side]) if up else None
                self._send(device, direction, LinkChange(rate_bps=rate, loss=loss, up=up, air=air))
        self._record(Command(begun_s, time.monotonic(), state, dict(self._sent)))

    def _send(self, device: str, direction: str, wanted: LinkChange) -> None:
        """Only what differs from what was sent last."""
        last = self._sent.get((device, direction), LinkChange())
        change = LinkChange(
            rate_bps=wanted.rate_bps if self._differs(wanted.rate_bps, last.rate_bps) else None,
            loss=wanted.loss if self._differs(wanted.loss, last.loss) else None,
            up=wanted.up if wanted.up != last.up else None,
            air=wanted.air if wanted.air != last.air else None,
        )
        if change == LinkChange():
            return
        self._network.change(device, direction, change)
        self._sent[device, direction] = LinkChange(
            rate_bps=last.rate_bps if change.rate_bps is None else change.rate_bps,
            loss=last.loss if change.loss is None else change.loss,
            up=wanted.up,
            air=wanted.air,
        )

    def _differs(self, wanted: float | None, last: float | None) -> bool:
        if wanted is None or last is None:
            return wanted is not None
        return abs(wanted - last) > self._epsilon * last + _LEAST_LOSS
