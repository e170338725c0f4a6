"""Which cell serves whom: the best at first, then by 3GPP's event A3 (TS 36.331 and 38.331, 5.5.4.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emulation.link_budget import Bools, Floats


@dataclass(frozen=True)
class HandoverRule:
    """Hand over when a neighbour has been received `hysteresis_db` better for `time_to_trigger_s`.

    While it lasts, `interruption_s`, the device has no link (about 50 ms in LTE: 3GPP TR 36.881, 5.2).
    """

    hysteresis_db: float = 3.0
    time_to_trigger_s: float = 0.16
    interruption_s: float = 0.05


class Handover:
    """The serving cell of every device. Times are resolved, and rounded up, to the steps it is fed in."""

    def __init__(self, rule: HandoverRule, received_dbm: Floats) -> None:
        self._rule = rule
        self.serving = received_dbm.argmax(axis=1)
        self._better_since = np.full(received_dbm.shape, np.inf)
        self._interrupted_until = np.full(len(received_dbm), -np.inf)

    def step(self, time_s: float, received_dbm: Floats) -> Bools:
        """Take in what every device receives of every cell without fading; True: interrupted from now on."""
        each = np.arange(len(received_dbm))
        served_dbm = received_dbm[each, self.serving][:, None]
        better = received_dbm > served_dbm + self._rule.hysteresis_db
        self._better_since = np.where(better, np.minimum(self._better_since, time_s), np.inf)
        due = self._better_since <= time_s - self._rule.time_to_trigger_s + 1e-9
        moves = due.any(axis=1)
        best = np.where(due, received_dbm, -np.inf).argmax(axis=1)
        self.serving = np.where(moves, best, self.serving)
        self._better_since[moves] = np.inf
        self._interrupted_until[moves] = time_s + self._rule.interruption_s
        return np.asarray(time_s < self._interrupted_until - 1e-9)
