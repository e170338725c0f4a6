"""Stable Diffusion v1.5's layouts: written down without torch, and exactly diffusers' and peft's own.

The UNet is built on torch's meta device: shapes without memory.
"""

from __future__ import annotations

from typing import Any

import pytest

from client.sd15 import TARGET_MODULES, sd15_lora_layout, sd15_unet_layout

KOHYA = (*TARGET_MODULES, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv")
LCM = (*KOHYA, *CONVOLUTIONS, "time_emb_proj")


@pytest.fixture(scope="module")
def unet() -> Any:
    """Stable Diffusion v1.5's UNet by its unet/config.json, without weights."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768)


def test_the_whole_unet_is_diffusers_own_name_by_name_and_shape_by_shape(unet: Any) -> None:
    """859,520,964 parameters: the figure that everyone quotes as 860 M."""
    theirs = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items() if "lora_" not in name}
    theirs = {name.replace(".base_layer.", "."): shape for name, shape in theirs.items()}
    layout = sd15_unet_layout()
    assert {tensor.name: tensor.shape for tensor in layout.tensors} == theirs
    assert layout.size == 859_520_964


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.parametrize(("rank", "targets"), [(4, TARGET_MODULES), (16, LCM)])
def test_lora_is_pefts_own_name_by_name_and_shape_by_shape(
    unet: Any, rank: int, targets: tuple[str, ...]
) -> None:
    from peft import LoraConfig, get_peft_model_state_dict

    config = LoraConfig(r=rank, target_modules=list(targets))
    unet.add_adapter(config, adapter_name=f"rank{rank}")
    state = get_peft_model_state_dict(unet, adapter_name=f"rank{rank}")
    theirs = {f"unet.{name}": tuple(tensor.shape) for name, tensor in state.items()}
    ours = {tensor.name: tensor.shape for tensor in sd15_lora_layout(rank, targets).tensors}
    assert ours == theirs


@pytest.mark.parametrize(
    ("targets", "modules", "values"),
    [(TARGET_MODULES, 128, 199_296), (KOHYA, 192, 423_936), (LCM, 278, 1_050_816)],
)
def test_the_number_of_values_is_linear_in_rank(targets: tuple[str, ...], modules: int, values: int) -> None:
    """diffusers', kohya's and LCM-LoRA's default modules."""
    for rank in (1, 4, 64):
        layout = sd15_lora_layout(rank, targets)
        assert layout.size == rank * values
        assert len(layout.tensors) == 2 * modules


def test_a_target_that_is_not_there_or_has_no_matrix_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no module norm1, to_nowhere to adapt"):
        sd15_lora_layout(4, ["to_q", "to_nowhere", "norm1"])
