"""From transmit power and losses to the signal-to-noise ratio of one direction of a radio link."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SPEED_OF_LIGHT_M_S = 3e8
"""As 3GPP TR 38.901 rounds it for the breakpoint distance (table 7.4.1-1, note 1)."""
THERMAL_NOISE_DBM_HZ = -174.0
"""k T at 290 K."""


class ChannelError(ValueError):
    """A channel that cannot be as asked; the message is one line that says what to change."""


def noise_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    """Noise power in a receiver: -174 dBm/Hz + 10 log10(bandwidth) + noise figure, in dBm."""
    return float(THERMAL_NOISE_DBM_HZ + 10 * np.log10(bandwidth_hz) + noise_figure_db)


@dataclass(frozen=True)
class LinkBudget:
    """One direction: what its sender has, and what its receiver adds.

    `power_dbm` at the antenna port, over the whole `bandwidth_hz`; `antenna_gain_db` of both ends together.
    No interference: cells are taken to use different carriers.
    """

    power_dbm: float
    bandwidth_hz: float
    noise_figure_db: float
    antenna_gain_db: float = 0.0

    def snr_db(self, loss_db: Floats) -> Floats:
        """Signal-to-noise ratio behind a loss (path loss and shadowing, no fading), in dB."""
        noise = noise_dbm(self.bandwidth_hz, self.noise_figure_db)
        return self.power_dbm + self.antenna_gain_db - loss_db - noise
