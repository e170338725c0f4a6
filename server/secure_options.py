"""How rounds are aggregated securely, as it was asked for, and what that goes together with."""

from __future__ import annotations

import math
from dataclasses import dataclass

from proto.codecs import Codec
from proto.codecs.ring import Ring
from server.aggregation.options import AggregationOptions


class SecureAggregationError(ValueError):
    """A combination that cannot be; the message begins with the key of the `privacy` section."""


@dataclass(frozen=True)
class SecureOptions:
    """Raises SecureAggregationError for what gives no protection or cannot be."""

    threshold: float = 2 / 3
    """The share of a cohort that must survive a round. Above half: then no two groups of devices are large
    enough to reveal both secrets of a third (client/participant.py)."""
    stage_timeout_s: float = 20.0
    """How long the server waits for the answers of one stage."""

    def __post_init__(self) -> None:
        if not 0.5 < self.threshold <= 1:
            raise SecureAggregationError(
                f"threshold: {self.threshold:g} is not above one half: two halves of a cohort could tell the "
                "server both secrets of a device"
            )
        if not 0 < self.stage_timeout_s < math.inf:
            raise SecureAggregationError(f"stage_timeout: {self.stage_timeout_s:g} s must be above 0")

    def needed(self, devices: int) -> int:
        """How many of a cohort of `devices` must survive: above half of them, and 2 at least."""
        return max(2, devices // 2 + 1, math.ceil(self.threshold * devices - 1e-9))

    @staticmethod
    def check(
        uplink: Codec, aggregation: AggregationOptions, *, devices: int, late: bool, error_feedback: bool
    ) -> None:
        """Whether the rest of a run can be had with it."""
        if not isinstance(uplink, Ring):
            problem = (
                f"uplink.codec={uplink.name} cannot be summed under masks: ring(BITS,RANGE), as ring(8,0.01)"
            )
        elif not aggregation.takes_one_mean:
            problem = (
                f"aggregation.method={aggregation.method} needs each update by itself: fedit, ffa and rolora "
                "take their sum"
            )
        elif aggregation.gathers:
            problem = f"aggregation.mean={aggregation.mean} needs each update by itself: weighted, uniform"
        elif aggregation.discordance:
            problem = "aggregation.discordance needs each update by itself: false"
        elif late:
            problem = "a late update's masks fit no other round: federation.late=refuse"
        elif error_feedback:
            problem = "what a device owes is not kept under masks: uplink.error_feedback=off"
        elif devices < 2:
            problem = "a cohort of one device has its update for a sum: two or more"
        else:
            return
        raise SecureAggregationError(f"secure_aggregation: {problem}")
