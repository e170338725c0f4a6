"""The arithmetic of a UNet, counted from names and shapes: by hand, and as torch counts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.sd15 import TARGET_MODULES, sd15_lora_layout, sd15_unet_layout
from client.unet_layout import lora_layout, read_unet_layout
from client.unet_work import SD15_SAMPLE, Macs, Sample, forward_macs, full_step, lora_step, read_sample
from proto.adapter import AdapterLayout, LayoutError

BUNDLED = Path(__file__).parents[2] / "client" / "diffusion" / "sd-emoji"


def test_stable_diffusion_is_what_is_published() -> None:
    """339 GMACs with weights (arXiv 2305.15798); attention over 64 x 64 pixels is no small part beside it."""
    macs = forward_macs(sd15_unet_layout(), SD15_SAMPLE)
    assert round(macs.weights / 1e9) == 339
    # Q K^T and the weighted sum, five attentions at 64 x 64, 32 x 32, 16 x 16 each and one at 8 x 8.
    levels = [(64**2, 320, 5), (32**2, 640, 5), (16**2, 1280, 5), (8**2, 1280, 1)]
    assert macs.attention == sum(2 * pixels * (pixels + 77) * width * n for pixels, width, n in levels)


def test_each_tensor_counts_where_it_is_applied() -> None:
    shapes = {
        "conv_in.weight": (8, 4, 3, 3),  # at 5 x 5 pixels
        "conv_in.bias": (8,),  # nothing
        "time_embedding.linear_1.weight": (32, 8),  # once
        "down_blocks.0.resnets.0.time_emb_proj.weight": (8, 32),  # once
        "down_blocks.0.downsamplers.0.conv.weight": (8, 8, 3, 3),  # at 3 x 3, rounded up
        "down_blocks.1.resnets.0.conv1.weight": (8, 8, 3, 3),  # at 3 x 3
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight": (8, 8),  # at 3 x 3
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight": (8, 6),  # of 7 tokens
        "up_blocks.0.upsamplers.0.conv.weight": (8, 8, 3, 3),  # at 5 x 5
        "up_blocks.1.resnets.0.conv1.weight": (8, 16, 3, 3),  # at 5 x 5
    }
    macs = forward_macs(AdapterLayout.of(shapes), Sample(5, 7))
    weights = 288 * 25 + 256 + 256 + 576 * 9 + 576 * 9 + 64 * 9 + 48 * 7 + 576 * 25 + 1152 * 25
    assert macs == Macs(weights, 2 * 9 * 7 * 8)
    with pytest.raises(LayoutError, match=r"proj\.weight is no tensor of a Stable Diffusion UNet"):
        forward_macs(AdapterLayout.of({"proj.weight": (2, 2)}), Sample(5, 7))


def test_a_step_is_a_forward_pass_and_what_has_to_be_differentiated() -> None:
    unet = sd15_unet_layout()
    macs = forward_macs(unet, SD15_SAMPLE)
    full = full_step(unet, SD15_SAMPLE)
    assert full.flops == 6 * macs.total and full.least_memory_bytes == 16 * 859_520_964
    lora = lora_step(unet, sd15_lora_layout(4), SD15_SAMPLE)
    assert lora.least_memory_bytes == 2 * 859_520_964 + 16 * 797_184
    # The adapter's own products are 1 % of the weights'; the attention's are whole in both.
    assert lora.flops == pytest.approx(4 * macs.weights + 6 * macs.attention, rel=0.01)
    assert lora.flops > 4 * macs.weights + 6 * macs.attention
    assert 0.67 < lora.flops / full.flops < 0.73


def test_the_bundled_base_is_as_torch_counts_it() -> None:
    """Forward, and a step of each kind; on torch's meta device, which computes shapes only."""
    import torch
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig
    from torch.utils.flop_counter import FlopCounterMode

    unet_layout, sample = read_unet_layout(BUNDLED), read_sample(BUNDLED)
    settings: dict[str, Any] = json.loads((BUNDLED / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(settings)
        latent = torch.empty(1, settings["in_channels"], sample.latent_side, sample.latent_side)
        text, time = torch.empty(1, sample.text_tokens, settings["cross_attention_dim"]), torch.zeros(1)

    def counted(*, backward: bool) -> int:
        with FlopCounterMode(display=False) as counter:
            loss = unet(latent, time, text).sample.sum()
            if backward:
                loss.backward()
        return int(counter.get_total_flops())

    macs = forward_macs(unet_layout, sample)
    assert counted(backward=False) == 2 * macs.total
    # Nothing has to be differentiated by latent and text, which the count by shapes does not know.
    assert counted(backward=True) == pytest.approx(full_step(unet_layout, sample).flops, rel=0.03)
    with torch.device("meta"):
        unet.add_adapter(LoraConfig(r=4, target_modules=list(TARGET_MODULES)))
    shapes = ((tensor.name, tensor.shape) for tensor in unet_layout.tensors)
    ours = lora_step(unet_layout, lora_layout(shapes, 4, TARGET_MODULES, "sd-emoji"), sample).flops
    assert counted(backward=True) == pytest.approx(ours, rel=0.1)


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"diffusion_pytorch_model\.safetensors holds no UNet"):
        read_unet_layout(tmp_path)
    with pytest.raises(LayoutError, match="does not say how large its samples are"):
        read_sample(tmp_path)
