"""What crosses the network in a round, by aggregation method: the one table that both ends go by.

A payload down is the values of some of the adapter's factors, and after them, where the method has any, a
merge: factors of some rank that the device adds to its frozen base for good. A payload up is the change of
the factors that the round trains. Ranks are the device's own; a merge's rank is the server's to choose.

The server decides what a device needs by what it holds (`Method.exchange`), RoundStart says so, and the
device takes the payload apart by the same sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

import numpy as np

from proto.adapter import AdapterLayout, Vector
from proto.federation_pb2 import RoundStart
from proto.lora import Factors, LoraLayout, fresh_adapter

TRAINER = "trainer"
"""The name under which the server's own trainer joins, in central training; it stands behind all devices."""


class ExchangeError(ValueError):
    """A round that brings what cannot be, or builds on what this device never had."""


@dataclass(frozen=True)
class Exchange:
    """One round between the server and one device."""

    trained: Factors = "AB"
    """Which factors are trained; their change goes up."""
    down: Factors = "AB"
    """Which factors come down; the device has the others."""
    merge_rank: int = 0
    """Rank of the merge that follows them; 0: none does."""
    fresh: tuple[int, ...] = ()
    """Seed of the adapter that the device draws itself before the factors come; empty: it does not."""

    def drawn_by(self, device_index: int) -> Exchange:
        """The same, with fresh factors of the device's own."""
        return replace(self, fresh=(*self.fresh, device_index))

    @property
    def kind(self) -> str:
        """As in clients.csv: the `full` adapter, or `part`s and merges."""
        return "full" if self.down == "AB" and not self.merge_rank else "part"

    def up(self, lora: LoraLayout) -> AdapterLayout:
        """The layout of the update."""
        return lora.only(self.trained)

    def merge_layout(self, lora: LoraLayout) -> AdapterLayout | None:
        """The layout of the merge. Raises ExchangeError for a rank that no product can have."""
        if self.merge_rank > (lora.largest_rank if lora.modules else 0):
            raise ExchangeError(f"a merge of rank {self.merge_rank} into {len(lora.modules)} LoRA modules")
        return lora.with_rank(self.merge_rank) if self.merge_rank else None

    def down_size(self, lora: LoraLayout) -> int:
        """Values of the payload that comes down."""
        merge = self.merge_layout(lora)
        return lora.only(self.down).size + (merge.size if merge else 0)

    def open(self, lora: LoraLayout, payload: Vector, held: Vector | None) -> tuple[Vector, Vector]:
        """A payload of shape (down_size,) -> the adapter that the round starts from, and the merge.

        `held` is the adapter of the device's last round, overwritten where the payload is newer; the merge is
        a view into the payload. Raises ExchangeError when the device lacks what does not come.
        """
        size = lora.only(self.down).size
        part, merge = payload[:size], payload[size:]
        if self.down == "AB":
            return (part.copy() if merge.size else part), merge
        adapter = fresh_adapter(lora.layout, self.fresh) if self.fresh else held
        if adapter is None:
            raise ExchangeError(f"factors '{self.down}' came of an adapter whose others are not held here")
        lora.put(adapter, self.down, part)
        return adapter, merge


def exchange_of(start: RoundStart) -> Exchange:
    """What a round brings and asks for. Raises ExchangeError for what no method does."""
    known = get_args(Factors)
    down, trained = start.down_factors, start.trained_factors
    if down not in known or trained not in known or not trained:
        raise ExchangeError(f"round {start.round} brings factors '{down}' and trains '{trained}'")
    return Exchange(cast(Factors, trained), cast(Factors, down), start.merge_rank, tuple(start.fresh_seed))


WHOLE = Exchange()
"""The adapter down, its change up."""


@dataclass(frozen=True)
class Method:
    """What an aggregation method sends."""

    name: str
    phases: tuple[Factors, ...] = ("AB",)
    """The factors trained in round 1, 2, ... and so on in turns."""
    fresh: bool = False
    """Devices begin every round with factors of their own; what was learnt is merged into their base."""
    merges: bool = False
    """The server's step has a part that devices merge into their base."""
    mixed_ranks: bool = False
    """Whether devices of different ranks can be aggregated."""
    needs_lora: bool = True

    def trained(self, round_number: int) -> Factors:
        """The factors that round `round_number` (1, 2, ...) trains."""
        return self.phases[(round_number - 1) % len(self.phases)]

    def exchange(
        self, round_number: int, *, held: int, seed: Sequence[int], seeded: bool, merge_rank: int = 0
    ) -> Exchange:
        """For a device whose last whole payload was that of round `held` (0: it had none).

        `seed` is that of its fresh factors; for methods that send half an adapter it is the initial
        adapter's, `seeded` telling whether that was drawn from it.
        """
        trained = self.trained(round_number)
        if self.fresh:
            return Exchange(trained, "", merge_rank, tuple(seed))
        if self.phases == ("AB",) or (held == 0 and not seeded):
            return Exchange(trained, "AB", merge_rank)
        # The device had the adapter as it was before round `held`, or draws the initial one.
        moved = {self.trained(number) for number in range(max(held, 1), round_number)}
        moved.add(self.trained(round_number - 1))
        down: Factors = "AB" if len(moved) > 1 else moved.pop()
        return Exchange(trained, down, merge_rank, () if held or down == "AB" else tuple(seed))


METHODS = {
    method.name: method
    for method in (
        Method("fedit", needs_lora=False),
        Method("ffa", phases=("B",)),
        # B first: while it is zero, A has no gradient.
        Method("rolora", phases=("B", "A")),
        Method("flora", fresh=True, merges=True, mixed_ranks=True),
        Method("fedex", merges=True),
        Method("flexlora", mixed_ranks=True),
        Method("hetlora", mixed_ranks=True),
    )
}


def concatenated(parts: Sequence[tuple[LoraLayout, Vector]]) -> Vector:
    """Merges one after the other as one: A's rows and B's columns of all of them, module by module."""
    rank = sum(lora.rank or 0 for lora, _ in parts)
    whole = LoraLayout(parts[0][0].with_rank(rank))
    vector = np.empty(whole.layout.size, np.float32)
    for index, module in enumerate(whole.modules):
        a, b = whole.factors(vector, module)
        pieces = [lora.factors(values, lora.modules[index]) for lora, values in parts]
        a[:] = np.concatenate([piece[0] for piece in pieces])
        b[:] = np.concatenate([piece[1] for piece in pieces], axis=1)
    return vector
