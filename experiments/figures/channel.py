"""What the wireless channel gave each device over time, and when the device used it."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.figures import style

_MOST_DEVICES = 6
# direction -> colour of its lines and transfers
_COLOURS = {"down": style.ORANGE, "up": style.BLUE}


def transfers(rounds: pd.DataFrame, clients: pd.DataFrame) -> pd.DataFrame:
    """From rounds.csv and clients.csv: client, direction, start_s, end_s of every transfer.

    In seconds since the first round's start; hand-overs between processes, milliseconds, are left out.
    """
    start_s = rounds.set_index("round")["start_s"]
    end_s = start_s + rounds.set_index("round")["latency_s"]
    rows = []
    if "scheme" in rounds:  # Central training's transfers are not told by its phases' lengths.
        clients = clients[~clients["round"].isin(rounds.loc[rounds["scheme"] == "central", "round"])]
    for row in clients.to_dict("records"):
        begin = start_s[row["round"]]
        if pd.notna(row["wait_s"]) and pd.notna(row["aggregate_s"]):
            uploaded = end_s[row["round"]] - row["aggregate_s"] - row["wait_s"]
            rows.append((row["client"], "up", uploaded - row["upload_s"], uploaded))
            begin = uploaded - sum(row[f"{p}_s"] for p in ("upload", "encode", "compute", "gate", "download"))
        if pd.notna(row["download_s"]):
            rows.append((row["client"], "down", begin, begin + row["download_s"]))
    return pd.DataFrame(rows, columns=["client", "direction", "start_s", "end_s"])


def draw(channel: pd.DataFrame, rounds: pd.DataFrame, clients: pd.DataFrame) -> Figure:
    """From channel.csv, rounds.csv and clients.csv: a column a device, the first six.

    SNR, commanded rate (0: no link), and bars where it downloaded and uploaded; dotted: handed over.
    """
    everyone = sorted(channel["device"].unique(), key=lambda name: (len(name), name))
    devices = everyone[:_MOST_DEVICES]
    moved = transfers(rounds, clients)
    figure = style.new_figure(max(6.0, 2.6 * len(devices) + 1.4), 4.6)
    grid = figure.subplots(
        3, len(devices), sharex=True, sharey="row", squeeze=False, height_ratios=[3, 3, 0.8]
    )
    for column, device in enumerate(devices):
        snr, rate, used = grid[:, column]
        for direction, colour in _COLOURS.items():
            rows = channel[(channel["device"] == device) & (channel["direction"] == direction)]
            line = {"color": colour, "linewidth": 1.0, "drawstyle": "steps-post"}
            snr.plot(rows["t_s"], rows["snr_db"], **line)
            rate.plot(rows["t_s"], rows["rate_bps"] / 1e6, **line)
        _mark_handovers((snr, rate), channel[channel["device"] == device])
        _draw_transfers(used, moved[moved["client"] == device])
        snr.set_title(device)
        used.set_xlabel("time since the first round (s)")
    grid[0, 0].set_ylabel("SNR (dB)")
    grid[1, 0].set_ylabel("commanded rate (Mbit/s)")
    grid[1, 0].set_ylim(bottom=0)
    for direction, colour in _COLOURS.items():
        grid[0, -1].plot([], [], color=colour, label={"down": "downlink", "up": "uplink"}[direction])
    figure.legend(loc="outside right upper", frameon=False)
    if len(everyone) > len(devices):
        figure.suptitle(f"the first {len(devices)} of {len(everyone)} devices")
    return figure


def _mark_handovers(panels: tuple[Axes, Axes], rows: pd.DataFrame) -> None:
    serving = rows[rows["direction"] == "down"]
    for time_s in serving["t_s"][serving["cell"].diff().fillna(0) != 0]:
        for axes in panels:
            axes.axvline(time_s, color=style.GREY, linestyle=":", linewidth=1.0)


def _draw_transfers(axes: Axes, moved: pd.DataFrame) -> None:
    for place, (direction, colour) in enumerate(_COLOURS.items()):
        rows = moved[moved["direction"] == direction]
        spans = list(zip(rows["start_s"], rows["end_s"] - rows["start_s"], strict=True))
        axes.broken_barh(spans, (-place - 0.4, 0.8), facecolors=colour)
    axes.set_yticks([0, -1], ["download", "upload"], fontsize=7)
    axes.set_ylim(-1.6, 0.6)
    axes.grid(False)
