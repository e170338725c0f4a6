"""LoRA layouts: modules as matrices, one factor alone, other ranks, fresh values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.adapter import AdapterLayout, LayoutError
from proto.lora import LoraLayout, fresh_adapter

SHAPES = {
    "unet.a.lora_A.weight": (2, 3),
    "unet.a.lora_B.weight": (5, 2),
    "unet.conv.lora_A.weight": (2, 3, 3, 3),  # as peft adapts a convolution
    "unet.conv.lora_B.weight": (4, 2, 1, 1),
}
LORA = LoraLayout(AdapterLayout.of(SHAPES))
VECTOR = np.random.default_rng(0).standard_normal(LORA.layout.size, np.float32)


def test_factors_are_matrix_views_of_the_vector() -> None:
    tensors = LORA.layout.unpack(VECTOR)
    for module in LORA.modules:
        a, b = LORA.factors(VECTOR, module)
        np.testing.assert_array_equal(a, tensors[f"{module.name}.lora_A.weight"].reshape(2, -1))
        np.testing.assert_array_equal(b, tensors[f"{module.name}.lora_B.weight"].reshape(-1, 2))
        assert a.base is not None
        assert b.base is not None
    assert LORA.rank == 2
    assert LORA.largest_rank == 4


@given(st.sampled_from(["A", "B"]))
def test_what_one_factor_takes_out_it_puts_back_and_nothing_else(factors: str) -> None:
    part = LORA.take(VECTOR, factors)  # type: ignore[arg-type]
    assert part.shape == (LORA.only(factors).size,)  # type: ignore[arg-type]
    vector = np.zeros_like(VECTOR)
    LORA.put(vector, factors, part)  # type: ignore[arg-type]
    for name, values in LORA.layout.unpack(vector).items():
        expected = VECTOR if f".lora_{factors}." in name else np.zeros_like(VECTOR)
        np.testing.assert_array_equal(values, LORA.layout.unpack(expected)[name])


@given(st.integers(1, 6))
def test_a_resized_adapter_keeps_what_both_ranks_have(rank: int) -> None:
    other = LoraLayout(LORA.with_rank(rank))
    resized = LORA.resize(VECTOR, rank)
    assert other.rank == rank
    assert [t.name for t in other.layout.tensors] == [t.name for t in LORA.layout.tensors]
    for mine, theirs in zip(LORA.modules, other.modules, strict=True):
        (a, b), (new_a, new_b) = LORA.factors(VECTOR, mine), other.factors(resized, theirs)
        kept = min(rank, 2)
        np.testing.assert_array_equal(new_b @ new_a, b[:, :kept] @ a[:kept])


def test_fresh_factors_are_gaussian_of_standard_deviation_one_over_the_rank() -> None:
    layout = AdapterLayout.of({"m.lora_A.weight": (4, 20_000), "m.lora_B.weight": (3, 4)})
    fresh = layout.unpack(fresh_adapter(layout, [7, 1]))
    assert abs(fresh["m.lora_A.weight"].std() * 4 - 1) < 0.02
    assert not fresh["m.lora_B.weight"].any()
    assert fresh_adapter(layout, [7, 1]).tobytes() == fresh_adapter(layout, [7, 1]).tobytes()
    assert fresh_adapter(layout, [7, 1]).tobytes() != fresh_adapter(layout, [7, 2]).tobytes()


def test_a_whole_model_has_no_rank() -> None:
    whole = LoraLayout(AdapterLayout.of({"unet.conv.weight": (4, 3, 3, 3)}))
    assert whole.rank is None
    assert whole.only("AB") == whole.layout
    with pytest.raises(LayoutError, match="no rank 4 of a layout with 0 LoRA modules"):
        whole.with_rank(4)


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        ({"m.lora_A.weight": (2, 3)}, "module m has a lora_A or a lora_B alone"),
        ({"m.lora_A.weight": (2, 3), "m.lora_B.weight": (3, 1)}, r"module m: factors of shapes \(2, 3\)"),
        (SHAPES | {"unet.norm.weight": (2,)}, "tensor unet.norm.weight is no LoRA factor"),
        (
            SHAPES | {"z.lora_A.weight": (1, 2), "z.lora_B.weight": (2, 1)},
            "different ranks: z has 1, unet.a has 2",
        ),
    ],
)
def test_what_is_no_lora_is_refused(shapes: dict[str, tuple[int, ...]], complaint: str) -> None:
    with pytest.raises(LayoutError, match=complaint):
        LoraLayout(AdapterLayout.of(shapes))
