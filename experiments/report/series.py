"""What charts draw, as JSON: columns of the run's tables, thinned where there is more than can be seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from emulation.link import FRAME_BYTES, SEGMENT_BYTES
from experiments.report import spans
from experiments.report.read import RunFolder
from experiments.timeline import PHASES

_CLIENT_COLUMNS = [
    *("round", "client", "outcome", "steps", "loss", "cpu_s", "turnaround_s", "extrapolated"),
    *("payload_down_bytes", "wire_down_bytes", "bound_download_s"),
    *("payload_up_bytes", "wire_up_bytes", "bound_upload_s", "retransmitted_segments"),
]
"""What is said of a device's round when one points at it, with its phases' times."""

_ROUND_COLUMNS = [
    "round",
    "start_s",
    "latency_s",
    "bound_s",
    "analytic_s",
    "cohort",
    "clients_finished",
    "extrapolated",
]

_LEVELS = ("payload", "message", "wire")

_CHANNEL_POINTS = 60_000
"""Of all devices and both directions together: a megabyte or two."""


def chart_data(run: RunFolder) -> dict[str, Any]:
    """Everything, as `#data` of the page."""
    data: dict[str, Any] = {"phases": list(PHASES), "devices": run.devices}
    data["timeline"] = timeline(run)
    if run.ended:
        rounds, clients = run.tables["rounds"], run.tables["clients"]
        phases = [f"{phase}_s" for phase in PHASES]
        data["rounds"] = columns(rounds, _ROUND_COLUMNS)
        data["clients"] = columns(clients, [*_CLIENT_COLUMNS, *phases])
        data["means"] = columns(
            means(run), [*phases, "client", "rounds", "bound_s", "turnaround_s", *_byte_columns()]
        )
    if (losses := losses_over_time(run)) is not None:
        data["losses"] = columns(losses, ["round", "style", "loss", "t_s"])
    if "retrieval" in run.tables:
        data["retrieval"] = columns(run.tables["retrieval"], [*map(str, run.tables["retrieval"].columns)])
    if "channel" in run.tables:
        data["channel"] = channel(run.tables["channel"])
    return data


def columns(table: pd.DataFrame, names: Iterable[str]) -> dict[str, list[Any]]:
    """Those of `names` that the table has, as JSON values; what is missing is null."""
    found = {}
    for name in dict.fromkeys(names):
        if name in table:
            values = table[name]
            if values.dtype.kind == "f":
                values = values.round(6)
            found[name] = [None if pd.isna(value) else value for value in values.tolist()]
    return found


def timeline(run: RunFolder) -> dict[str, Any] | None:
    """Lanes, and spans as columns; None where nothing is known."""
    if run.events:
        known = spans.from_events(run.events)
    elif run.ended:
        known = spans.from_tables(run.tables["rounds"], run.tables["clients"])
    else:
        return None
    if not known:
        return None
    lanes = [spans.SERVER, *run.devices]
    place = {lane: number for number, lane in enumerate(lanes)}
    return {
        "lanes": lanes,
        "lane": [place[span.lane] for span in known],
        "round": [span.round for span in known],
        "phase": [span.phase for span in known],
        "start": [round(span.start_s, 6) for span in known],
        "end": [round(span.end_s, 6) for span in known],
        "open": [index for index, span in enumerate(known) if not span.ended],
    }


def _byte_columns() -> list[str]:
    return [f"{level}_{way}_bytes" for way in ("down", "up") for level in (*_LEVELS, "bound")]


def means(run: RunFolder) -> pd.DataFrame:
    """A row a device: the mean over the rounds it finished of its phases, bound and bytes.

    `bound_{way}_bytes` is payload * 1514/1448: what full TCP segments over Ethernet cost at the least.
    """
    clients = run.tables["clients"]
    finished = clients[clients["outcome"] == "finished"] if "outcome" in clients else clients
    wanted = [f"{phase}_s" for phase in PHASES] + ["bound_s", "turnaround_s"]
    wanted += [f"{level}_{way}_bytes" for way in ("down", "up") for level in _LEVELS]
    known = [name for name in wanted if name in finished]
    grouped = finished.groupby("client", sort=False)
    table = grouped[known].mean()
    table["rounds"] = grouped.size()
    for way in ("down", "up"):
        if f"payload_{way}_bytes" in table:
            table[f"bound_{way}_bytes"] = table[f"payload_{way}_bytes"] * FRAME_BYTES / SEGMENT_BYTES
    there = set(table.index)
    return table.loc[[device for device in run.devices if device in there]].reset_index()


def losses_over_time(run: RunFolder) -> pd.DataFrame | None:
    """evaluation.csv, with the emulated time `t_s` at which each round's adapter was there."""
    losses = run.tables.get("evaluation")
    if losses is None or losses.empty or not {"round", "style", "loss"} <= set(losses):
        return None
    if "rounds" not in run.tables:
        return losses
    rounds = run.tables["rounds"].set_index("round")
    ends = {0: 0.0} | (rounds["start_s"] + rounds["latency_s"]).to_dict()
    return losses.assign(t_s=losses["round"].map(ends))


def channel(table: pd.DataFrame) -> dict[str, Any]:
    """(device, direction) -> its rate and SNR by time, thinned so that no dip and no peak goes missing."""
    groups = list(table.groupby(["device", "direction"], sort=False))
    most = max(100, _CHANNEL_POINTS // max(1, len(groups)))
    return {
        f"{device} {way}": columns(thinned(rows, "rate_bps", most), ["t_s", "rate_bps", "snr_db", "cell"])
        for (device, way), rows in groups
    }


def thinned(rows: pd.DataFrame, name: str, most: int) -> pd.DataFrame:
    """At most so many rows, in order: of each stretch those with the least and the largest value."""
    if len(rows) <= most:
        return rows
    values = rows[name].to_numpy(float)
    kept = {0, len(rows) - 1}
    for stretch in np.array_split(np.arange(len(rows)), max(1, (most - 2) // 2)):
        kept |= {int(stretch[np.argmin(values[stretch])]), int(stretch[np.argmax(values[stretch])])}
    return rows.iloc[sorted(kept)]
