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


def noise_dbm(bandwidth_hz: float | Floats, noise_figure_db: float) -> Floats:
    """Noise power in a receiver: -174 dBm/Hz + 10 log10(bandwidth) + noise figure, in dBm."""
    return np.asarray(THERMAL_NOISE_DBM_HZ + 10 * np.log10(bandwidth_hz) + noise_figure_db)


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

    def snr_db(self, loss_db: Floats, bands_hz: Floats | None = None) -> Floats:
        """Signal-to-noise ratio behind a loss (path loss and shadowing, no fading), in dB.

        `bands_hz` of each receiver's own band, in place of all of `bandwidth_hz`: the sender's whole power is
        in it, and it has less noise.
        """
        noise = noise_dbm(self.bandwidth_hz if bands_hz is None else bands_hz, self.noise_figure_db)
        return self.power_dbm + self.antenna_gain_db - loss_db - noise

    def snr_hz(self, loss_db: Floats) -> Floats:
        """Signal power behind a loss over the noise of 1 Hz: the bandwidth in which both are as strong."""
        return np.asarray(10 ** (self.snr_db(loss_db, np.ones_like(loss_db)) / 10))
