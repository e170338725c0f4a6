"""Updates in exactly a named model's adapter layout, without training and without torch.

For pure communication measurements: what crosses the network is as large, and as hard to compress, as
the real thing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from client.training import LocalResult
from proto.adapter import AdapterLayout, Vector

# Stable Diffusion v1.5's UNet (runwayml/stable-diffusion-v1-5, unet/config.json): where its transformer
# blocks stand and how wide they are. Text features are 768 wide.
_SD15_TRANSFORMERS = {
    "down_blocks.0": (2, 320),
    "down_blocks.1": (2, 640),
    "down_blocks.2": (2, 1280),
    "mid_block": (1, 1280),
    "up_blocks.1": (3, 1280),
    "up_blocks.2": (3, 640),
    "up_blocks.3": (3, 320),
}
_SD15_TEXT_WIDTH = 768

_UPDATE_SCALE = 1e-3
"""Standard deviation of a synthetic update: the order of a round's LoRA delta after Adam steps."""


def sd15_lora_layout(rank: int) -> AdapterLayout:
    """LoRA of `rank` on to_q, to_k, to_v, to_out.0 of every attention: 199,296 x rank values."""
    shapes: dict[str, tuple[int, int]] = {}
    for block, (count, width) in _SD15_TRANSFORMERS.items():
        for index in range(count):
            for attention, source_width in (("attn1", width), ("attn2", _SD15_TEXT_WIDTH)):
                base = f"unet.{block}.attentions.{index}.transformer_blocks.0.{attention}"
                for module in ("to_q", "to_k", "to_v", "to_out.0"):
                    inputs = source_width if module in ("to_k", "to_v") else width
                    shapes[f"{base}.{module}.lora_A.weight"] = (rank, inputs)
                    shapes[f"{base}.{module}.lora_B.weight"] = (width, rank)
    return AdapterLayout.of(shapes)


def initial_adapter(layout: AdapterLayout, seed: int) -> Vector:
    """LoRA's initial values (A ~ N(0, 1/r^2), B = 0; Hu et al., arXiv 2106.09685), shape (layout.size,)."""
    rng = np.random.default_rng(seed)
    tensors = {
        t.name: rng.standard_normal(t.shape, np.float32) / np.float32(t.shape[0])
        if ".lora_A." in t.name
        else np.zeros(t.shape, np.float32)
        for t in layout.tensors
    }
    return layout.pack(tensors)


class SyntheticTrainer:
    """A Trainer whose local step adds seeded Gaussian noise of a real update's size."""

    def __init__(self, layout: AdapterLayout, *, device_index: int, steps: int, examples: int, seed: int):
        self.layout = layout
        self.examples = examples
        self._steps = steps
        self._seed = (seed, device_index)

    def train(
        self, adapter: Vector, *, round_number: int, on_step: Callable[[int], None] = lambda step: None
    ) -> LocalResult:
        """As Trainer.train, with no work in it."""
        rng = np.random.default_rng((*self._seed, round_number))
        vector = rng.standard_normal(self.layout.size, np.float32)
        vector *= np.float32(_UPDATE_SCALE)
        vector += adapter
        on_step(self._steps)
        return LocalResult(vector, loss=float("nan"), steps=self._steps)
