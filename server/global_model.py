"""The global model: the adapter, and what has been merged into everybody's base since the first round.

Of most methods the adapter is all of it. FLoRA and FedEx-LoRA make a merge in each round: factors of some
rank that devices add to their frozen weights for good. All merges are kept, in files, for devices that missed
some, and a checkpoint holds them all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from proto.adapter import AdapterLayout, Vector
from proto.lora import LoraLayout
from server.aggregation.factors import Matrix, compressed
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
        """By the round that made them."""
        self._folder = folder

    def new_merge(self, rank: int) -> Merge:
        """One of rank `rank`, or less where no module's product can have as much."""
        return Merge(LoraLayout(self.lora.with_rank(min(rank, self.lora.largest_rank))), self._folder)

    def whole(self, *, with_adapter: bool) -> tuple[AdapterLayout, Vector]:
        """All that was learnt, relative to the base, as one adapter; all of it in memory.

        Where devices merge, its rank grows by every merge's, up to that of the weights themselves. Without
        the adapter where devices begin with one of their own.
        """
        if not self.merges:
            return self.layout, self.adapter
        merge = self.merged(0, with_adapter=with_adapter)
        vector = merge.values[:]
        merge.values.close()
        return merge.lora.layout, vector

    def merged_rank(self, since: int) -> int:
        """Rank of the merges of round `since` and later, as one; 0: there are none."""
        total = sum(merge.rank for number, merge in self.merges.items() if number >= since)
        return min(total, self.lora.largest_rank)

    def merged(self, since: int, *, with_adapter: bool = False) -> Merge:
        """The merges of round `since` and later as one, of `merged_rank` (at least one must be there).

        They are stacked, and where that is more than a module's product can have, compressed without loss.
        With the adapter it is the adapter's factors that come first: the whole model relative to the base.
        """
        parts = [merge for number, merge in sorted(self.merges.items()) if number >= since]
        own = (self.lora.rank or 0) if with_adapter else 0
        whole = self.new_merge(own + sum(merge.rank for merge in parts))
        for index, module in enumerate(self.lora.modules):
            factors = [part.factors(index) for part in parts]
            if with_adapter:
                factors.insert(0, self.lora.factors(self.adapter, module))
            a = np.concatenate([a for a, _ in factors]).astype(np.float64)
            b = np.concatenate([b for _, b in factors], axis=1).astype(np.float64)
            if a.shape[0] > whole.rank:
                a, b = compressed(a, b)
            whole.write(index, a, b)
        return whole
