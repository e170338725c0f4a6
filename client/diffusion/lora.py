"""The base's UNet with a LoRA adapter on it, by diffusers' and peft's own classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from peft import LoraConfig

from client.diffusion.base import Base
from client.diffusion.vector_unet import VectorUNet
from proto.adapter import AdapterLayout, Vector
from proto.lora import LoraLayout, fresh_adapter

TARGET_MODULES = ("to_q", "to_k", "to_v", "to_out.0")
"""The attention projections: what diffusers' example adapts."""

_PREFIX = "unet."
"""Before every tensor's name: what StableDiffusionPipeline.load_lora_weights expects."""

_ADAPTER = "default"
_A = ".lora_A.weight"


class AdaptedUNet(VectorUNet):
    """The base's UNet with a LoRA adapter on it, named as peft saves it.

    The base's weights are shared, not copied, and frozen, until something is merged into them. Every module
    has the rank `rank`, but for those in `ranks`, and a scaling of 1. Raises ValueError when a target module
    does not occur in the UNet.
    """

    def __init__(
        self,
        base: Base,
        rank: int,
        target_modules: list[str],
        seed: int = 0,
        ranks: Mapping[str, int] | None = None,
    ) -> None:
        unet = base.bare_unet()
        config = LoraConfig(
            r=rank,
            lora_alpha=rank,
            rank_pattern=dict(ranks or {}),
            alpha_pattern=dict(ranks or {}),
            init_lora_weights="gaussian",
            target_modules=list(target_modules),
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            unet.add_adapter(config, _ADAPTER)
        trained = {name: p for name, p in unet.named_parameters() if p.requires_grad}
        super().__init__(
            unet, {_PREFIX + name.replace(f".{_ADAPTER}.", "."): p for name, p in trained.items()}
        )

    @classmethod
    def fitting(cls, base: Base, layout: AdapterLayout, target_modules: list[str]) -> AdaptedUNet:
        """With each module's rank as in `layout`, which has other ranks than its run, or several, after
        some aggregation methods; anything else that is different shows in `write`."""
        ranks = {
            tensor.name.removeprefix(_PREFIX).removesuffix(_A): tensor.shape[0]
            for tensor in layout.tensors
            if tensor.name.endswith(_A)
        }
        return cls(base, max(ranks.values(), default=1), target_modules, ranks=ranks)

    def merge(self, layout: AdapterLayout, vector: Vector) -> None:
        """As Trainer.merge.

        The sums are this UNet's own from then on: for as long as it lives they take as much memory as the
        adapted modules' weights (374 MB for Stable Diffusion v1.5's attentions), whatever is merged later.
        """
        given = LoraLayout(layout)
        own = LoraLayout(LoraLayout(self.layout).with_rank(given.rank or 0))
        vector = own.layout.pack(layout.unpack(vector))
        for module in own.modules:
            # Of a convolution B is 1x1: as matrices the two multiply to its weights all the same.
            a, b = (torch.from_numpy(factor) for factor in own.factors(vector, module))
            layer = self.unet.get_submodule(module.name.removeprefix(_PREFIX)).get_base_layer()
            # Not in place: others, and other processes, read the base's weights too.
            merged = layer.weight.detach() + (b @ a).view_as(layer.weight)
            layer.weight = torch.nn.Parameter(merged, requires_grad=False)


def initial_adapter(
    base: Base, rank: int, target_modules: list[str], seed: int
) -> tuple[AdapterLayout, Vector]:
    """The adapter everybody starts from: A ~ N(0, 1/rank^2) drawn from `seed`, B = 0.

    Drawn as any device can draw it by itself: methods that train B alone need not send A.
    """
    layout = AdaptedUNet(base, rank, target_modules).layout
    return layout, fresh_adapter(layout, (seed,))
