"""What of Stable Diffusion v1.5's UNet is sent, by name and shape, without its weights and without torch.

A device that trains nothing must not need diffusers to know what an update looks like: the shapes follow
from the few numbers of runwayml/stable-diffusion-v1-5's unet/config.json. Tests compare them with
diffusers' and peft's own, tensor by tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from client.training import Rank
from client.unet_layout import lora_layout
from proto.adapter import AdapterLayout, TensorSpec

TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections: what diffusers' text-to-image LoRA example adapts."""

_WIDTHS = (320, 640, 1280, 1280)
_LAST = len(_WIDTHS) - 1
_LAYERS = 2
"""ResNets in each block on the way down; on the way up there is one more."""
_LATENT_CHANNELS = 4
_TEXT_WIDTH = 768
_TIME_WIDTH = 4 * _WIDTHS[0]

Named = Iterator[tuple[str, tuple[int, ...]]]


def sd15_layout(
    rank: Rank, target_modules: Sequence[str] = TARGET_MODULES, values: int | None = None
) -> AdapterLayout:
    """What a device of this rank sends: `sd15_unet_layout` or `sd15_lora_layout`; with `values` only its
    `first_part`."""
    whole = sd15_unet_layout() if rank == "full" else sd15_lora_layout(rank, target_modules)
    return whole if values is None else first_part(whole, values)


def first_part(layout: AdapterLayout, values: int) -> AdapterLayout:
    """The first tensors of a layout, `values` in all or few more.

    Of LoRA a module keeps both its factors whole, and with them its rank; any other tensor may be the last
    one and end after a row (its first dimension).
    """
    kept: list[TensorSpec] = []
    size = 0
    for spec in layout.tensors:
        if size >= values and ".lora_B." not in spec.name:
            break
        shape = spec.shape
        if ".lora_" not in spec.name:
            rows = math.ceil((values - size) * shape[0] / spec.size)
            shape = (min(shape[0], rows), *shape[1:])
        kept.append(TensorSpec(spec.name, shape))
        size += kept[-1].size
    return AdapterLayout(tuple(kept))


def sd15_unet_layout() -> AdapterLayout:
    """Every tensor of the UNet, named as diffusers saves it: 686 tensors, 859,520,964 values."""
    return AdapterLayout.of(dict(_unet()))


def sd15_lora_layout(rank: int, target_modules: Sequence[str] = TARGET_MODULES) -> AdapterLayout:
    """LoRA of `rank` on its modules, as client.unet_layout.lora_layout.

    By default to_q, to_k, to_v, to_out.0 of every attention: 199,296 x rank values.
    """
    return lora_layout(_unet(), rank, target_modules, "Stable Diffusion v1.5")


def _unet() -> Named:
    yield from _layer("conv_in", _WIDTHS[0], _LATENT_CHANNELS, 3, 3)
    yield from _layer("time_embedding.linear_1", _TIME_WIDTH, _WIDTHS[0])
    yield from _layer("time_embedding.linear_2", _TIME_WIDTH, _TIME_WIDTH)
    # What the way down hands over to the way up: the width after conv_in and after every step.
    skips = [_WIDTHS[0]]
    width = _WIDTHS[0]
    for index, outputs in enumerate(_WIDTHS):
        block = f"down_blocks.{index}"
        for layer in range(_LAYERS):
            yield from _resnet(f"{block}.resnets.{layer}", width, outputs)
            if index < _LAST:
                yield from _transformer(f"{block}.attentions.{layer}", outputs)
            width = outputs
            skips.append(width)
        if index < _LAST:
            yield from _layer(f"{block}.downsamplers.0.conv", width, width, 3, 3)
            skips.append(width)
    yield from _resnet("mid_block.resnets.0", width, width)
    yield from _transformer("mid_block.attentions.0", width)
    yield from _resnet("mid_block.resnets.1", width, width)
    for index, outputs in enumerate(reversed(_WIDTHS)):
        block = f"up_blocks.{index}"
        for layer in range(_LAYERS + 1):
            yield from _resnet(f"{block}.resnets.{layer}", width + skips.pop(), outputs)
            if index > 0:
                yield from _transformer(f"{block}.attentions.{layer}", outputs)
            width = outputs
        if index < _LAST:
            yield from _layer(f"{block}.upsamplers.0.conv", width, width, 3, 3)
    yield from _layer("conv_norm_out", width)
    yield from _layer("conv_out", _LATENT_CHANNELS, width, 3, 3)


def _layer(name: str, *shape: int) -> Named:
    """A normalisation (one dimension), linear layer (two) or convolution (four), with its bias."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _resnet(name: str, inputs: int, outputs: int) -> Named:
    yield from _layer(f"{name}.norm1", inputs)
    yield from _layer(f"{name}.conv1", outputs, inputs, 3, 3)
    yield from _layer(f"{name}.time_emb_proj", outputs, _TIME_WIDTH)
    yield from _layer(f"{name}.norm2", outputs)
    yield from _layer(f"{name}.conv2", outputs, outputs, 3, 3)
    if inputs != outputs:
        yield from _layer(f"{name}.conv_shortcut", outputs, inputs, 1, 1)


def _transformer(name: str, width: int) -> Named:
    yield from _layer(f"{name}.norm", width)
    yield from _layer(f"{name}.proj_in", width, width, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for norm in ("norm1", "norm2", "norm3"):
        yield from _layer(f"{block}.{norm}", width)
    for attention, source in (("attn1", width), ("attn2", _TEXT_WIDTH)):
        yield f"{block}.{attention}.to_q.weight", (width, width)
        yield f"{block}.{attention}.to_k.weight", (width, source)
        yield f"{block}.{attention}.to_v.weight", (width, source)
        yield from _layer(f"{block}.{attention}.to_out.0", width, width)
    # The feed-forward part's gate (GEGLU) needs its inner width of 4 times `width` twice.
    yield from _layer(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from _layer(f"{block}.ff.net.2", width, 4 * width)
    yield from _layer(f"{name}.proj_out", width, width, 1, 1)
