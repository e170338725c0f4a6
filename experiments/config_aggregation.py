"""The `aggregation` section: how a round's updates become the next global model."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from experiments.config_section import Section
from server.aggregation.options import AggregationOptions, OptimizerOptions


class Aggregation(Section):
    method: Literal["fedit", "ffa", "rolora", "flora", "fedex", "flexlora", "hetlora"] = "fedit"
    mean: str = "weighted"
    """`weighted` by examples; or every device alike: `uniform`; robust: `median`, `trimmed(FRACTION)`."""
    optimizer: Literal["none", "fedavgm", "fedadam"] = "none"
    learning_rate: float | None = None
    """The optimizer's; None: 1 for fedavgm, 0.01 for fedadam."""
    momentum: float = 0.9
    """Of fedavgm, and the first of fedadam."""
    second_momentum: float = 0.99
    adaptivity: float = 1e-3
    discordance: bool | None = None
    """Whether each round says what averaging A and B by themselves loses; with hundreds of devices that takes
    seconds between rounds. None: unless updates are private, of which it tells more than their sum does."""
    merge_rank: int | None = None
    """What flora and fedex merge is cut down to the nearest product of this rank; None: it is not."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        given = self.model_fields_set & {"learning_rate", "momentum", "second_momentum", "adaptivity"}
        unused = {
            "none": given,
            "fedavgm": given & {"second_momentum", "adaptivity"},
            "fedadam": set(),
        }[self.optimizer]
        # A configuration that is read back from a manifest names every key.
        if changed := sorted(key for key in unused if getattr(self, key) != _default(key)):
            raise ValueError(f"{changed[0]}: optimizer={self.optimizer} has none")
        self.options()
        return self

    def options(self, *, private: bool = False) -> AggregationOptions:
        """What the server is asked for; whether updates are private decides what is left open. Raises
        AggregationError."""
        optimizer = OptimizerOptions(
            self.optimizer, self.learning_rate, self.momentum, self.second_momentum, self.adaptivity
        )
        discordance = not private if self.discordance is None else self.discordance
        return AggregationOptions(self.method, self.mean, optimizer, discordance, self.merge_rank)


def _default(key: str) -> object:
    return Aggregation.model_fields[key].default
