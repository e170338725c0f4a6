"""A UNet with an adapter: compatible with diffusers' own loader, and one with its base where it is merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model_state_dict

from client.diffusion.base import Base, load_base
from client.diffusion.lora import TARGET_MODULES, AdaptedUNet, initial_adapter
from client.diffusion.loss import Batch
from proto.adapter import AdapterLayout, LayoutError, Vector, load_adapter, save_adapter
from proto.lora import LoraLayout

TARGETS = list(TARGET_MODULES)


@pytest.fixture(scope="module")
def base() -> Base:
    torch.set_num_threads(1)
    return load_base()


@pytest.fixture(scope="module")
def start(base: Base) -> tuple[AdapterLayout, Vector]:
    return initial_adapter(base, 4, TARGETS, seed=5)


def random_adapter(layout: AdapterLayout, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal(layout.size).astype(np.float32) * np.float32(0.05)


def probe(base: Base) -> Batch:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 16, 8, 8, generator=generator)
    return Batch(latents, latents.flip(0), base.encode_text(["red apple", "fish"]), torch.tensor([100, 700]))


def output(unet: torch.nn.Module, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return unet(batch.latents, batch.timesteps, encoder_hidden_states=batch.text).sample


def test_everybody_starts_from_the_same_adapter_that_changes_nothing(
    base: Base, start: tuple[AdapterLayout, Vector]
) -> None:
    layout, vector = start
    again_layout, again = initial_adapter(base, 4, TARGETS, seed=5)
    assert again_layout == layout and np.array_equal(again, vector)
    assert not np.array_equal(initial_adapter(base, 4, TARGETS, seed=6)[1], vector)
    for name, tensor in layout.unpack(vector).items():
        if ".lora_B." in name:
            assert not tensor.any()
        else:
            assert tensor.std() == pytest.approx(1 / 4, rel=0.2)
    adapted = AdaptedUNet(base, 4, TARGETS)
    adapted.write(vector)
    assert torch.equal(output(adapted.unet, probe(base)), output(base.unet, probe(base)))


def test_names_are_those_that_peft_saves_and_training_changes_nothing_else(base: Base) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    saved = get_peft_model_state_dict(adapted.unet)
    assert {tensor.name for tensor in adapted.layout.tensors} == {f"unet.{name}" for name in saved}
    assert sum(p.numel() for p in adapted.unet.parameters() if p.requires_grad) == adapted.layout.size


def test_write_then_read_is_the_identity(base: Base) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    vector = random_adapter(adapted.layout)
    adapted.write(vector)
    assert np.array_equal(adapted.read(), vector)
    assert not np.array_equal(AdaptedUNet(base, 4, TARGETS).read(), vector)  # the base is not touched


def test_a_foreign_layout_is_refused_by_the_first_tensor_that_differs(base: Base) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    before = adapted.read()
    fewer, less = initial_adapter(base, 4, ["to_q", "to_k"], seed=0)
    with pytest.raises(LayoutError, match=r"tensor unet\..*to_out\.0\.lora_A\.weight is missing"):
        adapted.write(less, fewer)
    narrower, thin = initial_adapter(base, 2, TARGETS, seed=0)
    with pytest.raises(LayoutError, match="shape"):
        adapted.write(thin, narrower)
    with pytest.raises(LayoutError):
        adapted.write(before[:-1])
    assert np.array_equal(adapted.read(), before)


def test_unknown_target_modules_are_refused(base: Base) -> None:
    with pytest.raises(ValueError, match="to_nowhere"):
        AdaptedUNet(base, 4, ["to_nowhere"])


def test_a_saved_adapter_loads_into_a_pipeline_and_draws_the_same(base: Base, tmp_path: Path) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    vector = random_adapter(adapted.layout)
    adapted.write(vector)
    save_adapter(tmp_path / "adapter.safetensors", adapted.layout, vector)
    pipeline = base.pipeline(base.bare_unet())
    pipeline.load_lora_weights(tmp_path / "adapter.safetensors")
    batch = probe(base)
    ours, theirs, plain = output(adapted.unet, batch), output(pipeline.unet, batch), output(base.unet, batch)
    assert torch.equal(ours, theirs)
    assert (ours - plain).abs().mean() > 0.01
    layout, stored = load_adapter(tmp_path / "adapter.safetensors")
    assert layout == adapted.layout and np.array_equal(stored, vector)


CONVOLUTIONS = ["conv1", "conv_shortcut", "proj_in", "to_out.0"]
"""Kernels of 3x3 and of 1x1, and a linear layer."""


def test_merging_adds_what_the_adapter_adds(base: Base) -> None:
    """Of any rank, again and again, in convolutions too: against peft's own forward and merged weights."""
    adapted, batch = AdaptedUNet(base, 3, CONVOLUTIONS), probe(base)
    adapted.unet.eval()
    expected = AdaptedUNet(base, 5, CONVOLUTIONS)
    vector = random_adapter(expected.layout)
    expected.write(vector)
    adapted.write(np.zeros(adapted.layout.size, np.float32))
    adapted.merge(expected.layout, vector)
    plain, merged = output(base.unet, batch), output(adapted.unet, batch)
    torch.testing.assert_close(merged, output(expected.unet, batch), rtol=1e-3, atol=1e-4)
    assert (merged - plain).abs().mean() > 0.01
    for module in LoraLayout(adapted.layout).modules:
        ours, theirs = (m.unet.get_submodule(module.name[5:]) for m in (adapted, expected))
        weight = theirs.get_base_layer().weight + theirs.get_delta_weight("default")
        torch.testing.assert_close(ours.get_base_layer().weight, weight)
    adapted.merge(expected.layout, -vector)  # Twice B A, for both signs change.
    expected.write(vector * np.float32(2**0.5))
    torch.testing.assert_close(
        output(adapted.unet, batch), output(expected.unet, batch), rtol=1e-3, atol=1e-4
    )


def test_merging_is_one_devices_own_matter(base: Base) -> None:
    batch = probe(base)
    before, other = output(base.unet, batch), AdaptedUNet(base, 4, TARGETS)
    other.unet.eval()
    adapted = AdaptedUNet(base, 4, TARGETS)
    shared = {p.data_ptr() for p in base.unet.parameters()}
    adapted.merge(adapted.layout, random_adapter(adapted.layout))
    assert torch.equal(output(base.unet, batch), before)
    assert torch.equal(output(other.unet, batch), before)
    own = sum(p.numel() for name, p in adapted.unet.named_parameters() if p.data_ptr() not in shared)
    touched = sum(m.inputs * m.outputs for m in LoraLayout(adapted.layout).modules)
    assert own == touched + adapted.layout.size  # Nothing else was copied.
    assert not any(p.requires_grad for name, p in adapted.unet.named_parameters() if "lora_" not in name)


def test_what_is_of_other_modules_is_not_merged(base: Base) -> None:
    adapted = AdaptedUNet(base, 4, TARGETS)
    foreign, vector = initial_adapter(base, 4, ["to_q"], seed=0)
    with pytest.raises(LayoutError, match=r"tensor unet\..* is missing"):
        adapted.merge(foreign, vector)
    with pytest.raises(LayoutError):
        adapted.merge(AdapterLayout.of({"conv_in.weight": (3,)}), np.zeros(3, np.float32))


def test_a_checkpoint_has_the_ranks_it_has(base: Base) -> None:
    """Module by module; each with a scaling of 1."""
    shapes, product = {}, []
    for index, module in enumerate(LoraLayout(AdaptedUNet(base, 1, CONVOLUTIONS).layout).modules):
        rank = 2 + index % 3
        shapes[module.a.name] = (rank, *module.a.shape[1:])
        shapes[module.b.name] = (module.outputs, rank, *module.b.shape[2:])
        product.append(module.name)
    layout = AdapterLayout.of(shapes)
    vector = random_adapter(layout)
    adapted = AdaptedUNet.fitting(base, layout, CONVOLUTIONS)
    adapted.write(vector, layout)
    assert adapted.layout == layout
    tensors = layout.unpack(vector)
    for name in product:
        a, b = (torch.from_numpy(tensors[f"{name}.lora_{f}.weight"]).flatten(1) for f in "AB")
        delta = adapted.unet.get_submodule(name[5:]).get_delta_weight("default")
        torch.testing.assert_close(delta.flatten(1), b @ a)
    fewer = AdaptedUNet.fitting(base, layout, ["to_out.0"])
    with pytest.raises(LayoutError, match="missing from the layout"):
        fewer.write(vector, layout)
