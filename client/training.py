"""What a device needs of a trainer, whatever it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proto.adapter import AdapterLayout, Vector


@dataclass(frozen=True)
class LocalResult:
    """One round of local work.

    `vector` is the local adapter afterwards, shape (layout.size,), the caller's own to change; `loss` the
    mean training loss, NaN where nothing was trained.
    """

    vector: Vector
    loss: float
    steps: int


class Trainer(Protocol):
    """Local training of one device."""

    layout: AdapterLayout
    examples: int
    """Training examples the device owns: its FedAvg weight."""

    def train(
        self, adapter: Vector, *, round_number: int, on_step: Callable[[int], None] = lambda step: None
    ) -> LocalResult:
        """Train from the global `adapter`, shape (layout.size,), which is not modified.

        The same seed, device, round and adapter give the same result. `on_step` is told the number of
        steps done.
        """
        ...
