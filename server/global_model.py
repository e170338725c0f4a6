"""The global model: the adapter, and what has been merged into everybody's base since the first round.

Of most methods the adapter is all of it. FLoRA and FedEx-LoRA make a merge in each round: factors of some
rank that devices add to their frozen weights for good. They are kept in files: the sum of all, for
checkpoints and for devices that have none, and the last rounds', for devices that missed some of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proto.adapter import AdapterLayout, Vector
from proto.lora import LoraLayout
from server.aggregation.factors import Matrix, nearest
from server.float_file import FloatFile


class Merge:
    """Factors of one rank, module by module, in a file."""

    def __init__(self, lora: LoraLayout, folder: Path) -> None:
        self.lora = lora
        self.values = FloatFile(folder, lora.layout.size)

    @property
    def rank(self) -> int:
        return self.lora.rank or 0

    def factors(self, index: int) -> tuple[Vector, Vector]:
        """A [r, in] and B [out, r] of module `index`."""
        module = self.lora.modules[index]
        a = self.values[module.a_start : module.a_start + module.a.size]
        b = self.values[module.b_start : module.b_start + module.b.size]
        return a.reshape(module.rank, module.inputs), b.reshape(module.outputs, module.rank)

    def write(self, index: int, a: Matrix, b: Matrix) -> None:
        """Factors of module `index`, of the merge's rank or less: what is missing are zeros."""
        module = self.lora.modules[index]
        whole_a = np.zeros((module.rank, module.inputs), np.float32)
        whole_b = np.zeros((module.outputs, module.rank), np.float32)
        whole_a[: a.shape[0]], whole_b[:, : b.shape[1]] = a, b
        self.values.write(module.a_start, whole_a.reshape(-1))
        self.values.write(module.b_start, whole_b.reshape(-1))


class GlobalModel:
    """`adapter` of shape (layout.size,), at the largest rank that any device has."""

    def __init__(self, layout: AdapterLayout, adapter: Vector, folder: Path) -> None:
        self.layout = layout
        self.adapter = adapter
        self.lora = LoraLayout(layout)
        self.merges: dict[int, Merge] = {}
        """By the round that made them, as far back as a device may still need one."""
        self._sum: Merge | None = None
        self._summed = 0
        """How many merges are in the sum."""
        self._folder = folder

    def new_merge(self, rank: int) -> Merge:
        """One of rank `rank`, or less where no module's product can have as much."""
        return Merge(LoraLayout(self.lora.with_rank(min(rank, self.lora.largest_rank))), self._folder)

    def whole(self, *, with_adapter: bool) -> tuple[AdapterLayout, Vector]:
        """All that was learnt, relative to the base, as one adapter; all of it in memory.

        Where devices merge, its rank grows by every merge's, up to that of the weights themselves. Without
        the adapter where devices begin with one of their own.
        """
        if self._sum is None:
            return self.layout, self.adapter
        merge = self._stacked([self._sum], with_adapter=True) if with_adapter else self._sum
        return merge.lora.layout, merge.values[:]

    def settle(self, number: int, needed_from: int) -> None:
        """Round `number` has made its merge, or none; nobody needs one before `needed_from` by itself."""
        if (merge := self.merges.get(number)) is not None:
            self._summed += 1
            self._sum = self._stacked([merge] if self._sum is None else [self._sum, merge])
        self.merges = {made: merge for made, merge in self.merges.items() if made >= needed_from}

    def first_merge(self, held: int, number: int) -> int:
        """Of the merges that a device lacks in round `number` the first one's round; 0: it lacks the sum.

        `held` is the last round whose payload it had. Where it lacks nothing: `number`.
        """
        if held == 0 and self._summed > 1:
            return 0
        return min((made for made in self.merges if made >= held), default=number)

    def merged_rank(self, since: int) -> int:
        """Rank of the merges of round `since` and later, as one; 0: there are none."""
        total = sum(merge.rank for merge in self._since(since))
        return min(total, self.lora.largest_rank)

    def _since(self, since: int) -> list[Merge]:
        if since == 0:
            return [] if self._sum is None else [self._sum]
        return [merge for number, merge in sorted(self.merges.items()) if number >= since]

    def merged(self, since: int) -> Merge:
        """The merges of round `since` and later as one, of `merged_rank`; at least one must be there."""
        return self._stacked(self._since(since))

    def _stacked(self, parts: Sequence[Merge], *, with_adapter: bool = False) -> Merge:
        """Merges as one, module by module; compressed without loss where a product cannot have their rank."""
        own = (self.lora.rank or 0) if with_adapter else 0
        whole = self.new_merge(own + sum(merge.rank for merge in parts))
        for index, module in enumerate(self.lora.modules):
            factors = [part.factors(index) for part in parts]
            if with_adapter:
                factors.insert(0, self.lora.factors(self.adapter, module))
            a = np.concatenate([a for a, _ in factors]).astype(np.float64)
            b = np.concatenate([b for _, b in factors], axis=1).astype(np.float64)
            a, b, _ = nearest(a, b, whole.rank)
            whole.write(index, a, b)
        return whole
