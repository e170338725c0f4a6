"""What each method sends, and that a device that missed rounds gets what it lacks and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.adapter import AdapterLayout
from proto.exchange import METHODS, Exchange, ExchangeError, exchange_of
from proto.federation_pb2 import RoundStart
from proto.lora import LoraLayout, fresh_adapter

LORA = LoraLayout(AdapterLayout.of({"m.lora_A.weight": (2, 5), "m.lora_B.weight": (4, 2)}))
A, B = 10, 8  # values


@pytest.mark.parametrize(
    ("method", "number", "down", "up"),
    [
        ("fedit", 1, A + B, A + B),
        ("fedit", 3, A + B, A + B),
        ("ffa", 1, B, B),
        ("ffa", 3, B, B),
        ("rolora", 1, A, B),
        ("rolora", 2, B, A),
        ("rolora", 3, A, B),
        ("flora", 1, 0, A + B),
        ("flora", 3, 3 * (A + B) // 2, A + B),  # a merge of rank 3
        ("fedex", 3, A + B + 3 * (A + B) // 2, A + B),
        ("hetlora", 3, A + B, A + B),
        ("flexlora", 3, A + B, A + B),
    ],
)
def test_values_down_and_up_for_a_device_that_missed_nothing(
    method: str, number: int, down: int, up: int
) -> None:
    rank = 3 if METHODS[method].merges and number > 1 else 0
    exchange = METHODS[method].exchange(number, held=number - 1, seed=(7,), seeded=True, merge_rank=rank)
    assert exchange.down_size(LORA) == down
    assert exchange.up(LORA).size == up


@given(
    st.sampled_from(["ffa", "rolora", "fedit"]),
    st.lists(st.booleans(), min_size=1, max_size=8),
    st.booleans(),
)
def test_whoever_misses_rounds_starts_every_round_from_the_global_adapter(
    name: str, takes_part: list[bool], seeded: bool
) -> None:
    method, rng = METHODS[name], np.random.default_rng(1)
    adapter = fresh_adapter(LORA.layout, (7,)) if seeded else rng.standard_normal(18).astype(np.float32)
    held, mine = 0, None
    for number, present in enumerate(takes_part, 1):
        if present:
            exchange = method.exchange(number, held=held, seed=(7,), seeded=seeded)
            payload = LORA.take(adapter, exchange.down).copy()
            mine, merge = exchange.open(LORA, payload, mine)
            np.testing.assert_array_equal(mine, adapter)
            assert merge.size == 0
            held = number
        moved = LORA.take(adapter, method.trained(number)) + 1
        adapter = adapter.copy()
        LORA.put(adapter, method.trained(number), moved)


def test_a_message_that_no_method_makes_is_refused() -> None:
    good = {"round": 1, "down_factors": "AB", "trained_factors": "AB"}
    assert exchange_of(RoundStart(**good)) == Exchange()
    for wrong in ({"down_factors": "C"}, {"trained_factors": ""}):
        with pytest.raises(ExchangeError, match="round 1 brings factors"):
            exchange_of(RoundStart(**(good | wrong)))
    with pytest.raises(ExchangeError, match="a merge of rank 5 into 1 LoRA modules"):
        Exchange(merge_rank=5).down_size(LORA)
    with pytest.raises(ExchangeError, match="whose others"):
        Exchange("B", "B").open(LORA, np.zeros(B, np.float32), None)
