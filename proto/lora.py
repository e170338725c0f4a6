"""The LoRA modules of an adapter's layout: their factors A and B, other ranks, one factor alone.

A module adds B @ A to a frozen weight (Hu et al., arXiv 2106.09685): A of shape (r, in...), B of shape
(out, r...). Everything here reads a convolution's factors as matrices: A as [r, in * kernel], B as [out, r].
The scaling is 1 (alpha equals the rank) everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from proto.adapter import AdapterLayout, LayoutError, TensorSpec, Vector

Factors = Literal["", "A", "B", "AB"]
"""Which factors of every module are meant. In a layout without LoRA `AB` means all of it."""

_A, _B = ".lora_A.", ".lora_B."


@dataclass(frozen=True)
class LoraModule:
    """One adapted module, and where its factors begin in the vector."""

    name: str
    a: TensorSpec
    """Of shape (r, in...)."""
    b: TensorSpec
    """Of shape (out, r...)."""
    a_start: int
    b_start: int

    @property
    def rank(self) -> int:
        return self.a.shape[0]

    @property
    def inputs(self) -> int:
        """Columns of A as a matrix."""
        return self.a.size // self.a.shape[0]

    @property
    def outputs(self) -> int:
        """Rows of B."""
        return self.b.shape[0]


class LoraLayout:
    """A layout seen as LoRA modules.

    Raises LayoutError where a factor has no partner, modules differ in rank, or only a part of the tensors
    belongs to LoRA.
    """

    def __init__(self, layout: AdapterLayout) -> None:
        self.layout = layout
        self.modules = _modules(layout)

    @cached_property
    def rank(self) -> int | None:
        """Of every module; None when the layout is not LoRA's."""
        return self.modules[0].rank if self.modules else None

    @cached_property
    def largest_rank(self) -> int:
        """The rank beyond which no module's B @ A can go: the largest of min(in, out)."""
        return max(min(module.inputs, module.outputs) for module in self.modules)

    def with_rank(self, rank: int) -> AdapterLayout:
        """The same modules at another rank, at least 1. Raises LayoutError where there is no LoRA."""
        if rank < 1 or not self.modules:
            raise LayoutError(f"no rank {rank} of a layout with {len(self.modules)} LoRA modules")
        resized = {}
        for module in self.modules:
            resized[module.a.name] = (rank, *module.a.shape[1:])
            resized[module.b.name] = (module.b.shape[0], rank, *module.b.shape[2:])
        return AdapterLayout(tuple(TensorSpec(t.name, resized[t.name]) for t in self.layout.tensors))

    def only(self, factors: Factors) -> AdapterLayout:
        """The tensors of these factors, under the same names and in the same order."""
        return AdapterLayout(tuple(t for t in self.layout.tensors if _belongs(t, factors)))

    def take(self, vector: Vector, factors: Factors) -> Vector:
        """The values of these factors, of shape (only(factors).size,): a copy, or all of `vector` itself."""
        if factors == "AB":
            return vector
        tensors = self.layout.unpack(vector)
        return self.only(factors).pack({n: v for n, v in tensors.items() if _belongs_name(n, factors)})

    def put(self, vector: Vector, factors: Factors, part: Vector) -> None:
        """Overwrite the values of these factors in `vector` with `part`, as `take` gives them."""
        tensors = self.layout.unpack(vector)
        for name, values in self.only(factors).unpack(part).items():
            tensors[name][...] = values

    def factors(self, vector: Vector, module: LoraModule) -> tuple[Vector, Vector]:
        """A [r, in] and B [out, r] of a module, views into `vector` of shape (layout.size,)."""
        a = vector[module.a_start : module.a_start + module.a.size]
        b = vector[module.b_start : module.b_start + module.b.size]
        return a.reshape(module.rank, module.inputs), b.reshape(module.outputs, module.rank)

    def resize(self, vector: Vector, rank: int) -> Vector:
        """The first `rank` rows of every A and columns of every B, zeros where there are no more."""
        if rank == self.rank:
            return vector.copy()
        other = LoraLayout(self.with_rank(rank))
        resized = np.zeros(other.layout.size, np.float32)
        for source, target in zip(self.modules, other.modules, strict=True):
            (a, b), (new_a, new_b) = self.factors(vector, source), other.factors(resized, target)
            kept = min(rank, source.rank)
            new_a[:kept], new_b[:, :kept] = a[:kept], b[:, :kept]
        return resized


def fresh_adapter(layout: AdapterLayout, seed: Sequence[int]) -> Vector:
    """LoRA's initial values (A ~ N(0, 1/r^2), B = 0, as diffusers' "gaussian"), shape (layout.size,)."""
    vector, offset = np.zeros(layout.size, np.float32), 0
    for index, spec in enumerate(layout.tensors):
        if _A in spec.name:
            vector[offset : offset + spec.size] = fresh_factor(spec, (*seed, index)).reshape(-1)
        offset += spec.size
    return vector


def fresh_factor(spec: TensorSpec, seed: Sequence[int]) -> Vector:
    """One A of `fresh_adapter`, whose seed is the adapter's and the tensor's number in the layout."""
    values = np.random.default_rng(tuple(seed)).standard_normal(spec.shape, np.float32)
    return values / np.float32(spec.shape[0])


def _belongs(spec: TensorSpec, factors: Factors) -> bool:
    return _belongs_name(spec.name, factors)


def _belongs_name(name: str, factors: Factors) -> bool:
    return factors == "AB" or (_A in name and factors == "A") or (_B in name and factors == "B")


def _modules(layout: AdapterLayout) -> tuple[LoraModule, ...]:
    found: dict[str, dict[str, tuple[TensorSpec, int]]] = {}
    others, offset = [], 0
    for spec in layout.tensors:
        for factor in (_A, _B):
            if factor in spec.name:
                found.setdefault(spec.name.partition(factor)[0], {})[factor] = (spec, offset)
                break
        else:
            others.append(spec.name)
        offset += spec.size
    if not found:
        return ()
    if others:
        raise LayoutError(f"tensor {others[0]} is no LoRA factor, but others of the layout are")
    return tuple(_module(name, parts) for name, parts in _of_one_rank(found).items())


def _of_one_rank(
    found: dict[str, dict[str, tuple[TensorSpec, int]]],
) -> dict[str, dict[str, tuple[TensorSpec, int]]]:
    """The same. Raises LayoutError for what is not pairs of one rank."""
    ranks: dict[int, str] = {}
    for name, parts in found.items():
        if len(parts) != 2:
            raise LayoutError(f"module {name} has a lora_A or a lora_B alone")
        a, b = parts[_A][0], parts[_B][0]
        if (
            len(a.shape) < 2
            or len(b.shape) < 2
            or a.shape[0] != b.shape[1]
            or b.size != a.shape[0] * b.shape[0]
        ):
            raise LayoutError(f"module {name}: factors of shapes {a.shape} and {b.shape} are no LoRA pair")
        ranks.setdefault(a.shape[0], name)
    if len(ranks) > 1:
        differing = ", ".join(f"{name} has {rank}" for rank, name in sorted(ranks.items())[:2])
        raise LayoutError(f"modules of different ranks: {differing}")
    return found


def _module(name: str, parts: dict[str, tuple[TensorSpec, int]]) -> LoraModule:
    (a, a_start), (b, b_start) = parts[_A], parts[_B]
    return LoraModule(name, a, b, a_start, b_start)
