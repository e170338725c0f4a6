"""Bytes by level (payload, message, wire) for each device, against the least that framing costs."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from emulation.link import FRAME_BYTES, SEGMENT_BYTES
from experiments.figures import style
from proto.exchange import TRAINER

# level -> colour of its bar, and of the number written on it
_LEVELS = {"payload": (style.SKY, "black"), "message": (style.BLUE, "white"), "wire": (style.ORANGE, "black")}


def draw(clients: pd.DataFrame) -> Figure:
    """From clients.csv: mean MB a round over the rounds a device finished, downlink and uplink apart.

    The tick is payload * 1514/1448: what full TCP segments over Ethernet cost at the least.
    """
    finished = clients[(clients["outcome"] == "finished") & (clients["client"] != TRAINER)]
    devices = sorted(finished["client"].unique(), key=lambda name: (len(name), name))
    figure = style.new_figure(max(6.0, 1.1 * len(devices) + 3), 3.2)
    for axes, (way, title) in zip(
        figure.subplots(1, 2), (("down", "downlink"), ("up", "uplink")), strict=True
    ):
        for index, device in enumerate(devices):
            rows = finished[finished["client"] == device]
            for offset, (level, (colour, ink)) in enumerate(_LEVELS.items()):
                megabytes = rows[f"{level}_{way}_bytes"].mean() / 1e6
                if pd.isna(megabytes):
                    continue  # A remote device's: nobody here counts them.
                place = index * 4 + offset
                axes.bar(place, megabytes, color=colour, width=0.95)
                text = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 7, "color": ink}
                axes.text(place, 0, f" {megabytes:.3f}", **text)
            least = rows[f"payload_{way}_bytes"].mean() / 1e6 * FRAME_BYTES / SEGMENT_BYTES
            axes.plot([index * 4 - 0.5, index * 4 + 2.5], [least] * 2, color="black", linewidth=1.2)
        axes.set_xticks([index * 4 + 1 for index in range(len(devices))], devices)
        axes.set_title(title)
        axes.set_ylabel("MB a round, mean")
    for level, (colour, _) in _LEVELS.items():
        axes.bar(0, 0, color=colour, label=level)
    axes.plot([], [], color="black", linewidth=1.2, label="bound: payload\nin full frames")
    figure.legend(loc="outside right upper", frameon=False)
    return figure
