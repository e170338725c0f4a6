"""How much arithmetic a UNet's training step is, counted from its tensors' names and shapes.

A weight of n values that is applied at t places of one sample (pixels of its level, tokens of the text) costs
n t multiply-accumulates (MACs); an attention over n places to m tokens of width d costs 2 n m d more, for
Q K^T and for the weighted sum of V. One MAC is two FLOPs. Normalisations, activations, additions and the
optimizer are left out: a per cent or two. So are text and image encoder, whose outputs devices keep.

Stable Diffusion v1.5 on one latent of 64x64 comes to 339 GMACs with weights, the figure that Kim et al. have
(BK-SDM, arXiv 2305.15798), and 63 more in attention, which counters of modules do not see: 402 in all. Tests
compare with torch's own counter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from proto.adapter import AdapterLayout, LayoutError

_FLOPS = 2
"""A multiplication and an addition."""
_FP16_BYTES, _ADAM_BYTES = 2, 16
"""Of a frozen parameter; of a trained one in fp32: weight, gradient and Adam's two moments."""


@dataclass(frozen=True)
class Sample:
    """What goes through a UNet at a time: a square latent, and the tokens of its caption."""

    latent_side: int
    text_tokens: int


SD15_SAMPLE = Sample(latent_side=64, text_tokens=77)
"""512x512 pixels."""


def read_sample(checkpoint: Path) -> Sample:
    """What a Stable Diffusion checkpoint's folder was made for. Raises LayoutError."""
    try:
        unet = json.loads((checkpoint / "unet" / "config.json").read_text())
        text = json.loads((checkpoint / "text_encoder" / "config.json").read_text())
        return Sample(int(unet["sample_size"]), int(text["max_position_embeddings"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LayoutError(f"{checkpoint} does not say how large its samples are: {error}") from error


@dataclass(frozen=True)
class Macs:
    """Of a forward pass of one sample: products with weights, and of activations with each other."""

    weights: int
    attention: int

    @property
    def total(self) -> int:
        return self.weights + self.attention


@dataclass(frozen=True)
class TrainingWork:
    """One training step: FLOPs for each sample of its batch, and the least memory it takes, in bytes.

    The memory is that of weights, gradients and Adam's moments; activations come on top of it, so what does
    not fit certainly does not, and what fits may not.
    """

    flops: float
    least_memory_bytes: int


def full_step(unet: AdapterLayout, sample: Sample) -> TrainingWork:
    """Of the whole UNet in fp32 with Adam: forward, and backward by inputs and by weights.

    Each of the three costs the same products with weights; attention's products have two operands to
    differentiate by, as many. So 3 (W + A) in all.
    """
    return TrainingWork(3 * _FLOPS * forward_macs(unet, sample).total, _ADAM_BYTES * unet.size)


def lora_step(unet: AdapterLayout, adapter: AdapterLayout, sample: Sample) -> TrainingWork:
    """Of LoRA on a frozen base in fp16.

    Frozen weights need no gradient, but what lies before them does: 2 W + 3 A, and 3 times the adapter's own
    products. About two thirds of a full step's.
    """
    places = _Places(unet, sample)
    base, own = _macs(unet, places), _macs(adapter, places).weights
    flops = _FLOPS * (2 * base.weights + 3 * base.attention + 3 * own)
    return TrainingWork(flops, _FP16_BYTES * unet.size + _ADAM_BYTES * adapter.size)


def forward_macs(unet: AdapterLayout, sample: Sample) -> Macs:
    """Of one sample through a UNet. Raises LayoutError for a tensor that no Stable Diffusion UNet has."""
    return _macs(unet, _Places(unet, sample))


def _macs(layout: AdapterLayout, places: _Places) -> Macs:
    """Of the tensors of a UNet, or of LoRA on it."""
    weights = attention = 0
    for tensor in layout.tensors:
        if len(tensor.shape) < 2:
            continue
        name = tensor.name.removeprefix("unet.")
        weights += tensor.size * places.of(name)
        if name.endswith(".to_q.weight"):
            pixels = places.of(name)
            attended = places.tokens if _attends_to_text(name) else pixels
            attention += 2 * pixels * attended * tensor.shape[0]
    return Macs(weights, attention)


def _attends_to_text(name: str) -> bool:
    return ".attn2." in name


class _Places:
    """At how many places of a sample each weight is applied."""

    def __init__(self, unet: AdapterLayout, sample: Sample) -> None:
        self.tokens, self._side = sample.text_tokens, sample.latent_side
        blocks = (tensor.name.split(".") for tensor in unet.tensors)
        self._last = max((int(block[1]) for block in blocks if block[0] == "down_blocks"), default=0)

    def of(self, name: str) -> int:
        """Raises LayoutError."""
        parts = name.split(".")
        if parts[0] == "time_embedding" or "time_emb_proj" in parts:
            return 1
        if _attends_to_text(name) and {"to_k", "to_v"} & set(parts):
            return self.tokens
        if parts[0] in ("conv_in", "conv_out"):
            return self._pixels(0)
        if parts[0] == "mid_block":
            return self._pixels(self._last)
        if parts[0] == "down_blocks":
            return self._pixels(int(parts[1]) + ("downsamplers" in parts))
        if parts[0] == "up_blocks":
            return self._pixels(self._last - int(parts[1]) - ("upsamplers" in parts))
        raise LayoutError(f"{name} is no tensor of a Stable Diffusion UNet")

    def _pixels(self, level: int) -> int:
        """Each level halves the side, rounding up."""
        side = -(-self._side // 2**level)
        return side * side
