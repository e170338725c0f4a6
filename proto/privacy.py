"""Differential privacy at the devices: what a run asks of them, as both ends know it.

Before anything is encoded, each of the n devices that a round asks makes of its update u

    u' = u min(1, C / |u|) + N(0, s^2 I),    s = z C / sqrt(n)

with the clipping of DP-FedAvg (McMahan et al., arXiv 1710.06963, section 2.2) and the noise that its server
would add to the sum, of standard deviation z C, in n equal parts at the devices (distributed differential
privacy; Kairouz et al., arXiv 2102.06387). The sum of m updates has noise of z C sqrt(m / n). What that is
worth, and to whom, is worked out in experiments/privacy.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from proto.federation_pb2 import JoinReply, Privacy


class PrivacyError(ValueError):
    """What cannot be asked of a device, or breaks the guarantee; the message is one line."""


@dataclass(frozen=True)
class ClientPrivacy:
    """What every device of a run does to its updates. Raises PrivacyError."""

    clip_norm: float
    """C: the largest L2 norm of an update, all trained factors being one vector."""
    noise_multiplier: float
    """z: the standard deviation of the noise in the sum of a whole cohort, in units of `clip_norm`."""
    seed: int = 0
    """Of the noise, with device and round."""

    def __post_init__(self) -> None:
        if self.clip_norm is None or self.noise_multiplier is None:
            raise PrivacyError("clip_norm and noise_multiplier go together: clipping bounds what noise hides")
        if not 0 < self.clip_norm < math.inf:
            raise PrivacyError(f"clip_norm: {self.clip_norm:g}; it must be above 0")
        if not 0 <= self.noise_multiplier < math.inf:
            raise PrivacyError(f"noise_multiplier: {self.noise_multiplier:g}; it must be 0 or more")

    def noise_std(self, cohort: int) -> float:
        """s: of the noise that one device of a cohort of so many adds to each value of its update."""
        return self.noise_multiplier * self.clip_norm / math.sqrt(cohort)

    def multiplier(self, devices: int, cohort: int) -> float:
        """Standard deviation of the noise in the sum of so many of a cohort's updates, over `clip_norm`."""
        return self.noise_multiplier * math.sqrt(devices / cohort)


def message(privacy: ClientPrivacy | None) -> Privacy | None:
    """As a device is told when it joins."""
    if privacy is None:
        return None
    return Privacy(clip_norm=privacy.clip_norm, noise_multiplier=privacy.noise_multiplier, seed=privacy.seed)


def privacy_of(reply: JoinReply) -> ClientPrivacy | None:
    """What the server asks for. Raises PrivacyError."""
    if not reply.HasField("privacy"):
        return None
    asked = reply.privacy
    return ClientPrivacy(asked.clip_norm, asked.noise_multiplier, asked.seed)
