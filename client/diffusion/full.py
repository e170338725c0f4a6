"""The whole UNet, trained and sent: what LoRA is compared with."""

from __future__ import annotations

import copy

from client.diffusion.base import Base
from client.diffusion.vector_unet import VectorUNet


class FullUNet(VectorUNet):
    """The base's UNet, a copy of its own, all of it trained.

    Named as diffusers saves it: a checkpoint is a `diffusion_pytorch_model.safetensors`. Training needs
    memory for five UNets (weights, gradients, Adam's two moments, the adapter that came down) and a sixth
    for the update.
    """

    def __init__(self, base: Base) -> None:
        unet = copy.deepcopy(base.unet).requires_grad_(True)
        super().__init__(unet, dict(unet.named_parameters()))
