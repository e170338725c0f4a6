"""A UNet whose trained parameters are read and written as one vector."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel

from client.training import UnsupportedError
from proto.adapter import AdapterLayout, Vector
from proto.lora import Factors


class VectorUNet:
    """`unet`, of which `parameters` are trained, by the names they have in a checkpoint."""

    def __init__(self, unet: UNet2DConditionModel, parameters: dict[str, torch.nn.Parameter]) -> None:
        self.unet = unet
        self.parameters = parameters
        self.layout = AdapterLayout.of({name: tuple(p.shape) for name, p in parameters.items()})

    def choose(self, trained: Factors) -> dict[str, torch.nn.Parameter]:
        """Have gradients reach the parameters of these factors only, and return them. UnsupportedError."""
        chosen = {
            name: parameter
            for name, parameter in self.parameters.items()
            if trained == "AB" or f".lora_{trained}." in name
        }
        if not chosen:
            raise UnsupportedError(f"training {trained} alone is for adapter.kind=lora, not for a whole UNet")
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(name in chosen)
            parameter.grad = None
        return chosen

    def read(self) -> Vector:
        """A copy of the parameters, shape (layout.size,)."""
        return self.layout.pack({name: p.detach().numpy() for name, p in self.parameters.items()})

    def write(self, vector: Vector, layout: AdapterLayout | None = None) -> None:
        """Put `vector`, shape (layout.size,), in force. Raises LayoutError.

        diffusers' and peft's own loading passes over missing and unexpected tensors without a word; here
        any difference between `layout` (the UNet's own, unless given) and the UNet's is an error.
        """
        own = self.layout
        if layout is not None and layout != own:
            vector = own.pack(layout.unpack(vector))
        with torch.no_grad():
            for name, value in own.unpack(vector).items():
                self.parameters[name].copy_(torch.from_numpy(value))

    def merge(self, layout: AdapterLayout, vector: Vector) -> None:
        """As Trainer.merge."""
        raise UnsupportedError("merging into the base is for adapter.kind=lora, not for a whole UNet")
