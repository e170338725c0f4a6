"""Merges add up, whoever asks for them, and those that nobody needs any more are forgotten."""

from __future__ import annotations

import numpy as np
import pytest
from dense import MODULES, lora_of
from hypothesis import given, settings
from hypothesis import strategies as st

from server.global_model import GlobalModel, Merge


def product(merge: Merge) -> list[np.ndarray]:
    return [np.matmul(b.astype(np.float64), a) for a, b in map(merge.factors, MODULES)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8), st.integers(0, 99))
def test_every_device_has_all_merges_once_whatever_rounds_it_missed(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[bool]], seed: int
) -> None:
    """Two devices that come and go, and one that loses its memory whenever it does."""
    folder, rng = tmp_path_factory.getbasetemp(), np.random.default_rng(seed)
    lora = lora_of(2)
    model = GlobalModel(lora.layout, np.zeros(lora.layout.size, np.float32), folder)
    nothing = [0 * b for b in product(Merge(lora, folder))]
    total, bases, held = nothing, [nothing] * 3, [0, 0, 0]
    for number, present in enumerate(rounds, 1):
        for device, there in enumerate(present):
            if not there:
                continue
            since = model.first_merge(held[device], number)
            if rank := model.merged_rank(since):
                merge = model.merged(since)
                assert merge.rank == rank <= lora.largest_rank
                bases[device] = [b + p for b, p in zip(bases[device], product(merge), strict=True)]
            held[device] = number
            for mine, expected in zip(bases[device], total, strict=True):
                np.testing.assert_allclose(mine, expected, atol=1e-4)
        if not present[2]:
            bases[2], held[2] = nothing, 0
        merge = model.merges[number] = model.new_merge(int(rng.integers(1, 4)))
        merge.values.write(0, rng.standard_normal(merge.values.size).astype(np.float32))
        total = [t + p for t, p in zip(total, product(merge), strict=True)]
        oldest = min((h for h in held if h), default=number)
        model.settle(number, needed_from=oldest)
        assert min(model.merges) == oldest
        layout, vector = model.whole(with_adapter=False)
        whole = Merge(type(lora)(layout), folder)
        whole.values.write(0, vector)
        for mine, expected in zip(product(whole), total, strict=True):
            np.testing.assert_allclose(mine, expected, atol=1e-4)
