"""Truncation against the dense singular value decomposition of the product."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.adapter import AdapterLayout, Vector
from proto.lora import LoraLayout
from proto.truncate import truncate, truncate_adapter

SIZES = st.integers(1, 12)


def factors(out: int, inner: int, inputs: int, seed: int = 0) -> tuple[Vector, Vector]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((out, inner), np.float32), rng.standard_normal((inner, inputs), np.float32)


@settings(max_examples=60, deadline=None)
@given(out=SIZES, inner=SIZES, inputs=SIZES, rank=SIZES, seed=st.integers(0, 9))
def test_nothing_of_that_rank_is_nearer(out: int, inner: int, inputs: int, rank: int, seed: int) -> None:
    """Also where the factors are wider than the product, and where more is asked for than there is."""
    b, a = factors(out, inner, inputs, seed)
    new_b, new_a = truncate(b, a, rank)
    assert new_b.shape == (out, rank) and new_a.shape == (rank, inputs)
    assert new_b.dtype == new_a.dtype == np.float32
    dense = b.astype(np.float64) @ a
    u, singular, v = np.linalg.svd(dense, full_matrices=False)
    best = (u[:, :rank] * singular[:rank]) @ v[:rank]
    scale = singular[0]
    np.testing.assert_allclose(new_b.astype(np.float64) @ new_a, best, atol=1e-5 * scale)
    error = np.linalg.norm(new_b.astype(np.float64) @ new_a - dense)
    assert error == pytest.approx(np.sqrt((singular[rank:] ** 2).sum()), abs=1e-5 * scale)


def test_singular_values_are_divided_evenly_and_sorted() -> None:
    new_b, new_a = truncate(*factors(40, 6, 30), 4)
    singular = np.linalg.svd(np.matmul(*factors(40, 6, 30)), compute_uv=False)[:4]
    np.testing.assert_allclose(new_b.T @ new_b, np.diag(singular), atol=1e-4)
    np.testing.assert_allclose(new_a @ new_a.T, np.diag(singular), atol=1e-4)


def test_the_same_product_gives_the_same_factors_whatever_it_was_made_of() -> None:
    """Signs are determined: B and A in other coordinates are the same product."""
    b, a = factors(40, 3, 30)
    turn = np.random.default_rng(1).standard_normal((3, 3))
    other = truncate((b @ turn).astype(np.float32), np.linalg.solve(turn, a).astype(np.float32), 3)
    for ours, theirs in zip(truncate(b, a, 3), other, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    flipped = truncate(-b, -a, 3)
    assert all(np.array_equal(x, y) for x, y in zip(truncate(b, a, 3), flipped, strict=True))


def test_a_product_of_zero_stays_zero() -> None:
    new_b, new_a = truncate(np.zeros((5, 2), np.float32), np.ones((2, 4), np.float32), 3)
    assert not new_b.any() and not new_a.any()


def test_every_module_of_an_adapter_convolutions_too() -> None:
    shapes = {
        "x.lora_A.weight": (6, 20),
        "x.lora_B.weight": (30, 6),
        "y.lora_A.weight": (6, 4, 3, 3),
        "y.lora_B.weight": (8, 6, 1, 1),
    }
    lora = LoraLayout(AdapterLayout.of(shapes))
    vector = np.random.default_rng(0).standard_normal(lora.layout.size, np.float32)
    truncated = truncate_adapter(lora, vector, 2)
    lower = LoraLayout(lora.with_rank(2))
    for module, other in zip(lora.modules, lower.modules, strict=True):
        a, b = lora.factors(vector, module)
        new_a, new_b = lower.factors(truncated, other)
        u, singular, v = np.linalg.svd(b @ a)
        np.testing.assert_allclose(new_b @ new_a, (u[:, :2] * singular[:2]) @ v[:2], atol=1e-4)
