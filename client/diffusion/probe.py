"""How well a UNet tells noise from each single drawing, all at the same noise and timesteps."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from client.diffusion.base import Base
from client.diffusion.data import Examples
from client.diffusion.loss import Batch, denoising_loss
from client.diffusion.vector_unet import VectorUNet

_BATCH = 32


class Probe:
    """Fixed examples, each at `draws` noises and timesteps, which are the middles of as many parts of the
    schedule. Two examples, or two UNets, differ by nothing else; so latents are drawn once."""

    def __init__(self, base: Base, examples: Examples, draws: int) -> None:
        self._base = base
        generator = torch.Generator().manual_seed(0)
        images, captions = torch.from_numpy(examples.images), examples.captions.tolist()
        self._latents = base.encode_images(images, generator)
        self._text = torch.cat(
            [base.encode_text(captions[at : at + _BATCH]) for at in range(0, len(captions), _BATCH)]
        )
        self._noise = torch.randn((draws, *self._latents.shape[1:]), generator=generator)
        last = base.scheduler.config.num_train_timesteps
        self._timesteps = ((torch.arange(draws) + 0.5) * last / draws).long()

    @torch.no_grad()
    def losses(self, model: VectorUNet) -> NDArray[np.float64]:
        """Mean denoising loss of each example, [N]."""
        found = np.zeros(len(self._latents))
        for noise, timestep in zip(self._noise, self._timesteps, strict=True):
            for at in range(0, len(found), _BATCH):
                latents = self._latents[at : at + _BATCH]
                batch = Batch(
                    latents,
                    noise.expand_as(latents),
                    self._text[at : at + _BATCH],
                    timestep.expand(len(latents)),
                )
                found[at : at + _BATCH] += denoising_loss(model.unet, self._base, batch).double().numpy()
        return found / len(self._noise)
