"""How rounds are aggregated, as it was asked for, and which combinations make sense."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from proto.exchange import METHODS, Method
from server.aggregation.factors import Matrix
from server.aggregation.fedadam import FedAdam
from server.aggregation.fedavgm import FedAvgM
from server.aggregation.median import median
from server.aggregation.optimizer import Optimizer, Plain
from server.aggregation.trimmed import trimmed

RobustMean = Callable[[Matrix], Matrix]
"""Updates [K, n] -> [n]."""

_TRIMMED = re.compile(r"trimmed\(([0-9]*\.?[0-9]+)\)")


class AggregationError(ValueError):
    """A combination that cannot be; the message begins with the key of the `aggregation` section."""


@dataclass(frozen=True)
class OptimizerOptions:
    """Which, and how. Raises AggregationError naming the option that is out of range."""

    name: Literal["none", "fedavgm", "fedadam"] = "none"
    learning_rate: float | None = None
    """None: 1 for fedavgm, 0.01 for fedadam."""
    momentum: float = 0.9
    """fedavgm's, and fedadam's beta_1."""
    second_momentum: float = 0.99
    """fedadam's beta_2."""
    adaptivity: float = 1e-3
    """fedadam's tau: the smaller, the more alike the steps of all values."""

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if rate is not None and not 0 < rate < math.inf:
            raise AggregationError(f"learning_rate: {rate:g} is not above 0")
        for key in ("momentum", "second_momentum"):
            if not 0 <= (value := getattr(self, key)) < 1:
                raise AggregationError(f"{key}: {value:g} is not between 0 and 1")
        if not 0 < self.adaptivity < math.inf:
            raise AggregationError(f"adaptivity: {self.adaptivity:g} is not above 0")

    def build(self) -> Optimizer:
        """One without a state yet."""
        if self.name == "fedavgm":
            return FedAvgM(self.learning_rate or 1.0, self.momentum)
        if self.name == "fedadam":
            rate = self.learning_rate or 0.01
            return FedAdam(rate, self.momentum, self.second_momentum, self.adaptivity)
        return Plain()


@dataclass(frozen=True)
class AggregationOptions:
    """Method, mean and optimizer. Raises AggregationError for names and combinations that make no sense."""

    method: str = "fedit"
    mean: str = "weighted"
    """`weighted` by examples, `uniform`, `median`, or `trimmed(FRACTION)`."""
    optimizer: OptimizerOptions = field(default_factory=OptimizerOptions)
    discordance: bool = True
    """Whether every round's is worked out. With hundreds of devices that takes seconds between rounds."""
    merge_rank: int | None = None
    """What flora and fedex merge is cut down to the nearest product of this rank; None: it is not."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise AggregationError(f"method: unknown '{self.method}': one of {', '.join(METHODS)}")
        if self.merge_rank is not None and (self.merge_rank < 1 or not self.wire.merges):
            raise AggregationError(
                f"merge_rank: {self.merge_rank} with {self.method}: 1 or more, with flora or fedex"
            )
        robust, one_vector = self.robust_mean() is not None, self.takes_one_mean
        if robust and not one_vector:
            raise AggregationError(
                f"mean: {self.mean} is of one vector, {self.method} has none; use weighted"
            )
        if self.optimizer.name != "none" and not one_vector:
            raise AggregationError(
                f"optimizer: {self.optimizer.name} moves by one mean vector, {self.method} has none; use none"
            )

    @property
    def wire(self) -> Method:
        """What the method sends."""
        return METHODS[self.method]

    @property
    def takes_one_mean(self) -> bool:
        """Whether the method's step is the mean of the updates, one vector."""
        return self.method in ("fedit", "ffa", "rolora")

    @property
    def gathers(self) -> bool:
        """Whether a round's step takes each update by itself, and not only their sum."""
        return not self.takes_one_mean or self.robust_mean() is not None

    def robust_mean(self) -> RobustMean | None:
        """None: a sum divided by its weights. Raises AggregationError."""
        if self.mean in ("weighted", "uniform"):
            return None
        if self.mean == "median":
            return median
        match = _TRIMMED.fullmatch(self.mean)
        if match and (share := float(match[1])) < 0.5:
            return partial(trimmed, fraction=share)
        raise AggregationError(
            f"mean: unknown '{self.mean}': weighted, uniform, median, or trimmed(FRACTION) with a fraction "
            "below 0.5"
        )

    def weight(self, examples: int) -> int:
        """What the update of a device with so many examples weighs in a sum."""
        return 1 if self.mean == "uniform" else examples

    def check_devices(self, ranks: list[int]) -> None:
        """Whether devices of these ranks can be aggregated; empty: there is no LoRA."""
        if not ranks and self.wire.needs_lora:
            raise AggregationError(f"method: {self.method} is about LoRA's factors; whole models need fedit")
        if len(set(ranks)) > 1 and not self.wire.mixed_ranks:
            able = ", ".join(method.name for method in METHODS.values() if method.mixed_ranks)
            raise AggregationError(
                f"method: {self.method} needs one rank for all devices, not {_listed(ranks)}: {able} do not"
            )

    def check_rounds(self, *, late: bool, delta: bool, error_feedback: bool) -> None:
        """Whether late updates, differences down and error feedback at the devices can be had with it."""
        if late and (self.gathers or len(self.wire.phases) > 1):
            raise AggregationError(
                f"method: {self._name} cannot take a late update into a later round: federation.late=refuse"
            )
        if late and self.mean == "uniform":  # And beside its device's next one it would count twice.
            raise AggregationError(
                "mean: uniform leaves a late update no smaller weight than others: weighted, or "
                "federation.late=refuse"
            )
        if delta and self.method != "fedit":
            raise AggregationError(
                f"method: {self.method} sends what has changed anyway: downlink.delta goes with fedit only"
            )
        if error_feedback and not self.takes_error_feedback:
            raise AggregationError(
                f"method: {self.method} sends other factors in every round, and what the codec left out of "
                "the last round's does not fit them: uplink.error_feedback=off"
            )

    def check_privacy(self) -> None:
        """Whether a round takes nothing of its updates but their sum, in which each counts alike.

        That is what noise is accounted for (experiments/privacy.py): a device's share of it is then bounded
        by the clipping alone.
        """
        if not self.takes_one_mean:
            raise AggregationError(
                f"method: {self.method} makes more of updates than their sum, for which alone privacy is "
                "accounted: fedit, ffa or rolora"
            )
        if self.mean != "uniform":
            raise AggregationError(
                f"mean: with {self.mean} one device can move the outcome further than noise hides: uniform"
            )
        if self.discordance:
            raise AggregationError("discordance: tells more of private updates than their sum: false")

    @property
    def takes_error_feedback(self) -> bool:
        """Whether one round's factors and the next one's are the same, in the same coordinates."""
        return self.method not in ("flora", "flexlora", "rolora")

    @property
    def _name(self) -> str:
        return self.method if self.mean == "weighted" else f"{self.method} with mean={self.mean}"


def _listed(ranks: list[int]) -> str:
    return ", ".join(str(rank) for rank in sorted(set(ranks)))
