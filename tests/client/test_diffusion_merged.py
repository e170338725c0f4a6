"""A checkpoint after many merges is one adapter that any pipeline loads, and draws as the devices do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from client.diffusion.base import load_base
from client.diffusion.lora import TARGET_MODULES, AdaptedUNet
from proto.adapter import adapter_file, load_adapter
from server.checkpoint import write_checkpoint
from server.global_model import GlobalModel


def test_merges_of_more_rank_than_the_weights_have_are_one_adapter_of_theirs(tmp_path: Path) -> None:
    """Modules differ in width: the adapter has one rank, that of the largest product."""
    base = load_base()
    adapted = AdaptedUNet(base, 2, list(TARGET_MODULES))
    rng = np.random.default_rng(0)
    model = GlobalModel(adapted.layout, adapted.read(), tmp_path)
    assert 100 < model.lora.largest_rank < 2 + 3 * 100
    for number in (1, 2, 3):
        merge = model.merges[number] = model.new_merge(100)
        merge.values.write(0, rng.standard_normal(merge.values.size).astype(np.float32) / 30)
        adapted.merge(merge.lora.layout, merge.values[:])
        model.settle(number, needed_from=number)
    model.adapter += rng.standard_normal(model.adapter.size).astype(np.float32) / 30
    adapted.write(model.adapter)
    write_checkpoint(tmp_path, 3, *model.whole(with_adapter=True))
    layout, _ = load_adapter(adapter_file(tmp_path, 3))
    assert {tensor.shape[0] for tensor in layout.tensors if ".lora_A." in tensor.name} == {
        model.lora.largest_rank
    }
    pipeline = base.pipeline(base.bare_unet())
    pipeline.load_lora_weights(adapter_file(tmp_path, 3))
    draws = [_output(unet) for unet in (adapted.unet, pipeline.unet, base.unet)]
    assert torch.allclose(draws[0], draws[1], atol=1e-4)
    assert (draws[0] - draws[2]).abs().mean() > 1e-2


@torch.no_grad()
def _output(unet: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    config = unet.config
    latents = torch.randn(1, config.in_channels, 16, 16, generator=generator)
    text = torch.randn(1, 16, config.cross_attention_dim, generator=generator)
    return unet.eval()(latents, torch.tensor([500]), encoder_hidden_states=text).sample
