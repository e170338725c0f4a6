"""What buildings add to the mean loss, and whether a cell is in sight: correlated along a device's way.

Gudmundson's model (Electronics Letters 27(23), 1991): along a movement the correlation falls as
exp(-distance / correlation distance). It is a process along the way and no map: a device that comes
back finds another shadow. A device that stands still keeps its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emulation.link_budget import Bools, Floats

LINE_OF_SIGHT_CORRELATION_M = 50.0
"""3GPP TR 38.901, table 7.6.3.1-2, UMa and UMi."""


class AlongTheWay:
    """Unit Gaussian values, shape (devices, cells), independent of each other, correlated along each way.

    One generator per device, so that a device's values do not depend on how many others there are.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], cells: int) -> None:
        self._rngs, self._cells = rngs, cells
        self.values = self._draw()

    def move(self, moved_m: Floats, correlation_m: Floats | float) -> None:
        """Every device has moved by so much, shape (devices,); one draw of new values a call."""
        kept = np.exp(-moved_m[:, None] / correlation_m)
        self.values = kept * self.values + np.sqrt(1 - kept**2) * self._draw()

    def _draw(self) -> Floats:
        return np.array([rng.standard_normal(self._cells) for rng in self._rngs])


class Sight:
    """Whether each cell is in each device's line of sight: a two-state Markov chain along the way.

    Its stationary probability is the path loss model's at the place where the device is, and its correlation
    falls as exp(-distance / 50 m): sight lasts 50 m / (1 - probability) on average. One generator per device.
    """

    def __init__(self, rngs: Sequence[np.random.Generator], probability: Floats) -> None:
        self._rngs = rngs
        self.now: Bools = self._draw(probability)

    def move(self, moved_m: Floats, probability: Floats) -> None:
        """Every device has moved by so much, shape (devices,), to where sight is so probable."""
        kept = np.exp(-moved_m[:, None] / LINE_OF_SIGHT_CORRELATION_M)
        self.now = self._draw(probability + (self.now - probability) * kept)

    def _draw(self, probability: Floats) -> Bools:
        chances = np.array([rng.random(probability.shape[1]) for rng in self._rngs])
        return np.asarray(chances < probability)
