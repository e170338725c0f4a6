"""Small channels for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from emulation.channel import Channel, ChannelModel, RadioDirection
from emulation.link_budget import LinkBudget
from emulation.mobility import Way, random_waypoint
from emulation.path_loss import Urban
from emulation.rate_adaptation import CQI_DOWN, CQI_UP

AREA = (600.0, 400.0)
CELLS = ((100.0, 200.0), (500.0, 200.0))


def walkers(count: int, speed_m_s: float = 10.0) -> list[Way]:
    """Devices that walk about from the first cell."""
    return [
        Way(random_waypoint(CELLS[0], AREA, (speed_m_s, speed_m_s), 0.0, np.random.default_rng([9, number])))
        for number in range(count)
    ]


def still(*points: tuple[float, float]) -> list[Way]:
    return [Way([(0.0, *point)]) for point in points]


def small_channel(**changes: Any) -> Channel:
    """Two walkers between two cells of UMa at 3.5 GHz, 5 MHz; with any part of the model replaced."""
    model: dict[str, Any] = {
        "ways": walkers(2),
        "cells_m": CELLS,
        "path_loss": Urban("uma", 3.5e9),
        "frequency_hz": 3.5e9,
        "down": RadioDirection(LinkBudget(40.0, 5e6, 9.0), CQI_DOWN),
        "up": RadioDirection(LinkBudget(23.0, 5e6, 5.0), CQI_UP),
        "seed": 4,
    }
    return Channel(ChannelModel(**model | changes))
