"""A round's step of the global model, by the method that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proto.adapter import Vector
from proto.events import EventLog
from proto.lora import Factors, LoraLayout, fresh_factor
from server.aggregation import fedex, flexlora, flora, hetlora
from server.aggregation.discordance import discordance
from server.aggregation.factors import Matrix, nearest, square_norm
from server.aggregation.fedavg import FedAvg, Tally
from server.aggregation.local import LocalModel
from server.aggregation.masked_sum import MaskedSum
from server.aggregation.optimizer import Means, Optimizer
from server.aggregation.options import AggregationOptions, RobustMean
from server.float_file import FloatFile
from server.global_model import GlobalModel, Merge

_PIECE_VALUES = 2**15
"""Of each device's update, at a time."""


@dataclass(frozen=True)
class Kept:
    """A whole update, encoded still; `values` decodes it, once."""

    name: str
    device_index: int
    examples: int
    lora: LoraLayout
    """At the device's own rank."""
    values: Callable[[], FloatFile]


class Merging:
    """A merge while it is made, and what of it its rank has no room for."""

    def __init__(self, merge: Merge) -> None:
        self.merge = merge
        self._missed = self._whole = 0.0

    def take(self, index: int, a: Matrix, b: Matrix) -> None:
        """Factors of module `index`, of any rank."""
        near_a, near_b, missed = nearest(a, b, self.merge.rank)
        self.merge.write(index, near_a, near_b)
        self._missed, self._whole = self._missed + missed, self._whole + square_norm(a, b)

    def report(self) -> dict[str, float]:
        """For the record: the rank, and what was cut off as a share of the whole's Frobenius norm."""
        return {"merge_rank": self.merge.rank, "truncated": _share(self._missed, self._whole)}


class Aggregator:
    """Moves `model`, round by round.

    Where a sum is enough, updates are summed while they arrive; otherwise they come as LocalModels, whose
    values lie in files and are read module by module: memory does not grow with the number of devices but for
    the factors of one module.
    """

    def __init__(
        self, options: AggregationOptions, model: GlobalModel, *, folder: Path, seed: int, events: EventLog
    ) -> None:
        self.options = options
        self._model = model
        self._folder = folder
        self._seed = seed
        self._events = events
        self._optimizers: dict[Factors, Optimizer] = {}
        self._before: FloatFile | None = None
        self._kept: Sequence[Kept] = ()
        self._models: list[LocalModel] = []
        self._files: list[FloatFile] = []

    @property
    def _reports(self) -> bool:
        """Whether rounds have a discordance to report."""
        return self.options.discordance and self._model.lora.rank is not None

    def needs_updates(self, number: int) -> bool:
        """Whether round `number` needs each update by itself: for its step, or for the discordance."""
        if self.options.gathers:
            return True
        return self._reports and self.options.wire.trained(number) == "AB"

    def open(self, number: int) -> Tally:
        """What the updates of round `number` are added to while they arrive."""
        if self.options.gathers:
            return Tally()
        return FedAvg(self._model.lora.only(self.options.wire.trained(number)).size)

    def step(self, number: int, total: Tally, kept: Sequence[Kept]) -> dict[str, float]:
        """Move the model by round `number`; what to put on record. `kept`: its updates in order of name."""
        model, method = self._model, self.options.method
        if total.weight == 0:
            return {}
        self._kept = kept
        if self.needs_updates(number):
            self._before = FloatFile.of(self._folder, model.adapter)
            self._files.append(self._before)
        models = self._local_models(number) if self.options.gathers else []
        if self.options.takes_one_mean:
            self._move(self.options.wire.trained(number), self._means(total, models))
            return {}
        if method == "flora":
            return self._flora(number, models)
        if method == "fedex":
            return self._fedex(number, models)
        return self._flexlora(models) if method == "flexlora" else self._hetlora(models)

    def look_back(self, number: int) -> None:
        """After the step, and in no round's time: put the discordance on record, and give up the updates."""
        if self._reports:
            if self.options.wire.trained(number) != "AB":
                value = 0.0  # One factor is the same for all: the mean of products is the product of means.
            else:
                models = self._local_models(number)
                value = discordance(models) if models else math.nan
            self._events.write("discordance", round=number, value=value)
        for file in self._files:
            file.close()
        self._kept, self._models, self._files, self._before = (), [], [], None

    def _local_models(self, number: int) -> list[LocalModel]:
        """The round's updates, decoded once."""
        if not self._models:
            self._models = [self._local_model(number, kept) for kept in self._kept]
        return self._models

    def _local_model(self, number: int, kept: Kept) -> LocalModel:
        def start(index: int) -> tuple[Vector, Vector]:
            module = kept.lora.modules[index]
            if not self.options.wire.fresh:
                return self._started_from(index, module.rank)
            place = kept.lora.layout.tensors.index(module.a)
            a = fresh_factor(module.a, (self._seed, number, kept.device_index, place))
            return a.reshape(module.rank, -1), np.zeros((module.outputs, module.rank), np.float32)

        change = kept.values()
        self._files.append(change)
        return LocalModel(kept.name, kept.examples, kept.lora, change, start)

    def _started_from(self, index: int, rank: int) -> tuple[Vector, Vector]:
        """Module `index` of the adapter before the step, cut down to `rank`."""
        assert self._before is not None
        module = self._model.lora.modules[index]
        a = self._before[module.a_start : module.a_start + module.a.size].reshape(module.rank, -1)
        b = self._before[module.b_start : module.b_start + module.b.size].reshape(-1, module.rank)
        return a[:rank], b[:, :rank]

    def _means(self, total: Tally, models: Sequence[LocalModel]) -> Means:
        robust = self.options.robust_mean()
        if robust is not None:
            return _robust_means(robust, models)
        assert isinstance(total, FedAvg | MaskedSum)
        return total.means()

    def _move(self, trained: Factors, means: Means) -> None:
        """By one mean vector; each phase has its optimizer."""
        model = self._model
        optimizer = self._optimizers.setdefault(trained, self.options.optimizer.build())
        part = model.lora.take(model.adapter, trained)
        optimizer.step(part, means)
        if trained != "AB":
            model.lora.put(model.adapter, trained, part)

    def _flora(self, number: int, models: Sequence[LocalModel]) -> dict[str, float]:
        merging = self._merging(flora.stacked_rank(models))
        for index in range(len(self._model.lora.modules)):
            merging.take(index, *flora.stack(models, index))
        self._model.merges[number] = merging.merge
        return merging.report()

    def _fedex(self, number: int, models: Sequence[LocalModel]) -> dict[str, float]:
        model, rank = self._model, fedex.residual_rank(models)
        merging = self._merging(rank) if rank else None
        for index, module in enumerate(model.lora.modules):
            (mean_a, mean_b), (a, b) = fedex.mean_and_residual(models, index)
            global_a, global_b = model.lora.factors(model.adapter, module)
            global_a[:], global_b[:] = global_a + mean_a, global_b + mean_b
            if merging is not None:
                merging.take(index, a, b)
        if merging is None:
            return {"merge_rank": 0}
        model.merges[number] = merging.merge
        return merging.report()

    def _merging(self, rank: int) -> Merging:
        """A merge of rank `rank`, or what may be sent of it."""
        return Merging(self._model.new_merge(min(rank, self.options.merge_rank or rank)))

    def _flexlora(self, models: Sequence[LocalModel]) -> dict[str, float]:
        lora, lost, whole = self._model.lora, 0.0, 0.0
        for index, module in enumerate(lora.modules):
            a, b, cut, all_of_it = flexlora.redistribute(models, index, module.rank)
            global_a, global_b = lora.factors(self._model.adapter, module)
            global_a[:], global_b[:] = a, b
            lost, whole = lost + cut, whole + all_of_it
        return {"truncated": _share(lost, whole)}

    def _hetlora(self, models: Sequence[LocalModel]) -> dict[str, float]:
        lora, weights = self._model.lora, hetlora.norm_shares(models)
        for index, module in enumerate(lora.modules):
            global_a, global_b = lora.factors(self._model.adapter, module)
            global_a[:], global_b[:] = hetlora.pad_and_weigh(models, weights, index, module.rank)
        return {f"weight_{model.name}": weight for model, weight in zip(models, weights, strict=True)}


def _share(part: float, whole: float) -> float:
    """Of norms, from their squares."""
    return math.sqrt(part / whole) if whole > 0 else 0.0


def _robust_means(mean: RobustMean, models: Sequence[LocalModel]) -> Means:
    for start in range(0, models[0].change.size, _PIECE_VALUES):
        parts = [model.change[start : start + _PIECE_VALUES] for model in models]
        yield start, mean(np.stack(parts).astype(np.float64))
