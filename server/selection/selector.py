"""What a policy is, what it may know, and how large a cohort is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class SelectionError(ValueError):
    """A policy nobody has or that cannot be, or a trace that cannot be read; the message is one line."""


@dataclass(frozen=True)
class Candidate:
    """A device that may be asked, and what the server knows of it."""

    name: str
    examples: int = 0
    """Its training examples; 0 when it has not registered."""
    connected: bool = True
    loss: float | None = None
    """Mean training loss that it last reported; None: none yet."""
    uplink_bps: float | None = None
    """Payload bits per second of its last update, from the first byte to the last; 0 when it was asked and no
    update came; None: never asked."""


class Selector(Protocol):
    """One policy for one run."""

    def select(self, candidates: Sequence[Candidate], round_number: int) -> list[str]:
        """The cohort's names, in the candidates' order: as many as the policy was made for, or all there are.

        To be called once a round, in order: a policy may remember whom it has chosen.
        """
        ...


def cohort_size(devices: int, fraction: float) -> int:
    """ceil(fraction * devices), at least one."""
    # 0.07 * 100 is 7.000000000000001 in floating point, and still 7 devices.
    return max(1, math.ceil(fraction * devices - 1e-9))


def in_order(candidates: Sequence[Candidate], chosen: Sequence[Candidate]) -> list[str]:
    """The names of those chosen, in the candidates' order."""
    names = {candidate.name for candidate in chosen}
    return [candidate.name for candidate in candidates if candidate.name in names]


def reachable(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those with a connection; all when nobody has one.

    For policies that rank devices: one that is gone would keep its rank and be asked in vain in every round.
    """
    return [candidate for candidate in candidates if candidate.connected] or list(candidates)
