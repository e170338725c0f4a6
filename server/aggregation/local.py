"""The local models of a round: what each device started from, and what it says has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proto.adapter import Vector
from proto.lora import LoraLayout
from server.aggregation.factors import Matrix


class Values(Protocol):
    """A vector of shape (size,), in memory or not: slices are read where they are needed."""

    @property
    def size(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Vector: ...


@dataclass(frozen=True)
class LocalModel:
    """One device's update. All of a round are worked through in the order of their names."""

    name: str
    examples: int
    lora: LoraLayout
    """At the device's own rank."""
    change: Values
    """In the layout of the factors that were trained."""
    start: Callable[[int], tuple[NDArray[np.float32], NDArray[np.float32]]]
    """The number of a module -> the factors A [r, in] and B [out, r] that the device started from."""

    def changes(self, index: int) -> tuple[Matrix, Matrix]:
        """What has changed of A [r, in] and B [out, r] of module `index`, both factors trained."""
        module = self.lora.modules[index]
        a = self.change[module.a_start : module.a_start + module.a.size]
        b = self.change[module.b_start : module.b_start + module.b.size]
        shaped_a = a.reshape(module.rank, module.inputs).astype(np.float64)
        return shaped_a, b.reshape(module.outputs, module.rank).astype(np.float64)

    def factors(self, index: int) -> tuple[Matrix, Matrix]:
        """A [r, in] and B [out, r] of module `index` after local training, both factors trained."""
        (a, b), (more_a, more_b) = self.start(index), self.changes(index)
        return a + more_a, b + more_b


def shares(models: Sequence[LocalModel]) -> list[float]:
    """The weight of each in a mean by examples; they sum to 1."""
    total = sum(model.examples for model in models)
    return [model.examples / total for model in models]


def padded(a: Matrix, b: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """The same product with zero rows of A and columns of B up to `rank`."""
    more = rank - a.shape[0]
    return np.pad(a, ((0, more), (0, 0))), np.pad(b, ((0, 0), (0, more)))
