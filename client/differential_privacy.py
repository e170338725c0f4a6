"""Differential privacy on the device: its update is clipped and gets noise before the codec sees it.

    u' = u min(1, C / |u|) + N(0, s^2 I)

What the codec makes of u' is post-processing and needs no more care, but for error feedback: what is left of
earlier updates was clipped with them and not with this one, so there is none.

What else goes up tells something of the data too. Under privacy a device sends no loss, and registers as one
example. That it takes part, drops out or diverges, and how long it takes, is seen all the same.

The noise is drawn from the run's seed, device and round, so that an experiment can be repeated. The guarantee
is that of the mechanism with noise nobody can foresee; whoever knows the seed of a run can subtract it.
Attacks on floating-point noise (Mironov, On significance of the least significant bits, CCS 2012) are not
covered: the noise is NumPy's float64 normal, rounded to float32 with the update.
"""

from __future__ import annotations

import math

import numpy as np

from client.norm import l2_norm
from proto.adapter import Vector
from proto.events import EventLog
from proto.privacy import ClientPrivacy
from proto.segments import SEGMENT_VALUES

_STREAM = 0x6E6F6973
"""No other generator of a run is seeded with this beside seed, device and round."""


class PrivateUpdates:
    """One device's way of making its updates private."""

    def __init__(self, privacy: ClientPrivacy, device_index: int, events: EventLog) -> None:
        self._privacy, self._device_index, self._events = privacy, device_index, events

    def apply(self, update: Vector, round_number: int, cohort: int) -> dict[str, float]:
        """Clip `update`, shape (size,), and add this round's noise, in place; what UploadHeader says of it.

        An update that is not finite becomes NaN throughout: the server refuses it, and sees no value of it.
        """
        norm, std = l2_norm(update), self._privacy.noise_std(cohort)
        if math.isfinite(norm):
            self._clip_and_add(update, norm, std, round_number)
        else:
            update.fill(np.nan)
        clip_norm = self._privacy.clip_norm
        self._events.write(
            "clipped",
            round=round_number,
            update_norm=norm if math.isfinite(norm) else math.nan,
            clipped=not norm <= clip_norm,
            clip_norm=clip_norm,
            noise_std=std,
        )
        return {"clip_norm": clip_norm, "noise_std": std, "loss": math.nan}

    def _clip_and_add(self, update: Vector, norm: float, std: float, round_number: int) -> None:
        scale = min(1.0, self._privacy.clip_norm / norm) if norm else 1.0
        rng = np.random.default_rng((_STREAM, self._privacy.seed, self._device_index, round_number))
        for start in range(0, update.size, SEGMENT_VALUES):
            part = update[start : start + SEGMENT_VALUES]
            part[:] = part.astype(np.float64) * scale + rng.standard_normal(part.size) * std
