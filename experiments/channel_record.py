"""What a channel commanded its links to be, from a log during the run to a table and to bounds after it.

`events/channel.csv` is written as the run goes, stamped with CLOCK_MONOTONIC; `channel.csv` is the run's
table, in emulated seconds since the first round's start.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from emulation.channel import DIRECTIONS
from emulation.channel_driver import Command
from emulation.link import FRAME_BYTES, SEGMENT_BYTES, AccessLink
from experiments.timeline import ClientRound, Round
from proto.exchange import TRAINER

COLUMNS = ["device", "direction", "cell", "distance_m", "snr_db", "rate_bps", "loss", "up"]
"""Of both, after the time; `rate_bps` as commanded, in emulated bit/s, and 0 while the link is down."""

_TRANSFERS = {
    "download": ("down", "download_start", ("download_end",)),
    "upload": ("up", "upload_start", ("upload_received", "encode_end")),
    "delivery": ("down", "delivery_start", ("delivery_end",)),
}
"""phase -> direction, the mark it begins with, and those that have its payload's size: as it came, or what an
upload that has not come can be at most."""
_PARTS = ["bound_download_s", "compute_s", "bound_upload_s"]


class ChannelLog:
    """A driver's record: a row a step, device and direction, written at once."""

    def __init__(self, path: Path, devices: Sequence[str], dilation: float = 1.0) -> None:
        self._devices, self._dilation = devices, dilation
        self._file = path.open("w", newline="", buffering=1 << 16)
        self._rows = csv.writer(self._file)
        self._rows.writerow(["t", "t_done", *COLUMNS])

    def __call__(self, command: Command) -> None:
        state = command.state
        for number, device in enumerate(self._devices):
            for side, direction in enumerate(DIRECTIONS):
                told = command.in_force[device, direction]
                self._rows.writerow(
                    [
                        f"{command.begun_s:.6f}",
                        f"{command.done_s:.6f}",
                        device,
                        direction,
                        int(state.cell[number]),
                        f"{state.distance_m[number]:.2f}",
                        f"{state.snr_db[number, side]:.2f}",
                        f"{(told.rate_bps or 0.0) * self._dilation if told.up else 0.0:.0f}",
                        f"{(told.loss or 0.0) if told.up else 0.0:.6f}",
                        int(bool(told.up)),
                    ]
                )

    def close(self) -> None:
        """No more rows."""
        self._file.close()


def read_log(path: Path, dilation: float = 1.0) -> pd.DataFrame:
    """The log with its times in emulated seconds, as `timeline.read_events` has them."""
    log = pd.read_csv(path)
    log[["t", "t_done"]] /= dilation
    return log


def table(log: pd.DataFrame, start_s: float) -> pd.DataFrame:
    """The run's channel.csv; `start_s` the first round's start, in the log's time."""
    return log[COLUMNS].assign(t_s=log["t"] - start_s)[["t_s", *COLUMNS]]


class Commanded:
    """The most that every direction could carry, by time; while a change is under way, the larger rate."""

    def __init__(self, log: pd.DataFrame) -> None:
        self._times: dict[tuple[str, str], np.ndarray] = {}
        self._carried: dict[tuple[str, str], np.ndarray] = {}
        self._last_bps: dict[tuple[str, str], float] = {}
        for (device, direction), rows in log.groupby(["device", "direction"]):
            rates = rows["rate_bps"].to_numpy(float)
            larger = np.maximum(rates, np.concatenate([rates[:1], rates[:-1]]))
            times = rows[["t", "t_done"]].to_numpy(float).reshape(-1)
            held = np.stack([larger, rates], axis=1).reshape(-1)
            key = str(device), str(direction)
            self._times[key] = times
            self._carried[key] = np.concatenate([[0.0], np.cumsum(held[:-1] * np.diff(times))])
            self._last_bps[key] = float(rates[-1])

    def least_s(self, device: str, direction: str, start_s: float, bits: float) -> float:
        """The least time that so many bits take from `start_s` on; infinite if they never get through.

        Not a number for a direction that was never commanded: its run is invalid anyway.
        """
        if (device, direction) not in self._times:
            return float("nan")
        times, carried = self._times[device, direction], self._carried[device, direction]
        last_bps = self._last_bps[device, direction]
        goal = float(np.interp(start_s, times, carried)) + bits
        if start_s > times[-1]:
            return bits / last_bps if last_bps else float("inf")
        if goal > carried[-1]:
            return times[-1] + (goal - carried[-1]) / last_bps - start_s if last_bps else float("inf")
        # The first instant at which the goal is reached: a link that is down carries nothing.
        after = int(np.searchsorted(carried, goal))
        if after == 0:
            return 0.0
        share = (goal - carried[after - 1]) / (carried[after] - carried[after - 1])
        return float(times[after - 1] + share * (times[after] - times[after - 1]) - start_s)


def with_bounds(
    clients: pd.DataFrame, rounds: Sequence[Round], commanded: Commanded, links: Mapping[str, AccessLink]
) -> pd.DataFrame:
    """clients.csv with its bounds by what the links were commanded to be while they were needed.

    As `record.bound_s`, from each transfer's own start on: payload in full frames, and propagation.
    """
    if clients.empty:
        return clients
    bounded = clients.copy()
    places = {(row["round"], row["client"]): index for index, row in clients.iterrows()}
    for client in (client for one in rounds for client in one.clients.values() if client.client in links):
        place = places[client.round, client.client]
        bounds: dict[str, float] = {}
        for phase, (direction, begin, sizes) in _TRANSFERS.items():
            start_s, payload = client.time(begin), _payload_bytes(client, sizes)
            if start_s is None or payload is None:
                continue
            bits = payload * 8 * FRAME_BYTES / SEGMENT_BYTES
            delay_s = getattr(links[client.client], direction).delay_s
            least_s = commanded.least_s(client.client, direction, start_s, bits)
            column = "bound_upload_s" if phase == "upload" else "bound_download_s"
            bounds[column] = bounds.get(column, 0.0) + least_s + delay_s
        for column, bound in bounds.items():
            bounded.loc[place, column] = bound
    bounded["bound_s"] = bounded[_PARTS].sum(axis=1, skipna=False)
    # Nobody there does all of it.
    central = bounded["round"].isin([one.number for one in rounds if one.scheme == "central"])
    bounded.loc[central, "bound_s"] = bounded.loc[central, _PARTS].sum(axis=1, min_count=1)
    return bounded


def contradictions(rounds: Iterable[Round], commanded: Commanded) -> list[str]:
    """Transfers faster than their links were: each makes the run invalid."""
    found = []
    everyone = (client for one in rounds for client in one.clients.values())
    for client in (client for client in everyone if client.client != TRAINER):
        for phase, (direction, begin, sizes) in _TRANSFERS.items():
            took_s = client.phase_s(phase)
            if client.outcome != "finished" or took_s is None:
                continue
            start_s, payload = client.time(begin), _payload_bytes(client, sizes)
            assert start_s is not None and payload is not None
            least_s = commanded.least_s(client.client, direction, start_s, payload * 8)  # Headers left out.
            if took_s < least_s:
                found.append(
                    f"round {client.round}, {client.client}: {phase} of {took_s:.3f} s is faster than the "
                    f"commanded rate's {least_s:.3f} s"
                )
    return found


def _payload_bytes(client: ClientRound, marks: Iterable[str]) -> int | None:
    """By the first of these marks that there is."""
    sizes = (client.value(mark, "payload_bytes") for mark in marks)
    return next((size for size in sizes if size is not None), None)
