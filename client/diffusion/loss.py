"""The objective: how well a UNet tells the noise from the drawing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.training_utils import compute_snr

from client.diffusion.base import Base


@dataclass(frozen=True)
class Batch:
    """What one training step sees: latents and noise [N, C, h, w], text [N, tokens, width], timesteps [N]."""

    latents: torch.Tensor
    noise: torch.Tensor
    text: torch.Tensor
    timesteps: torch.Tensor


def denoising_loss(
    unet: UNet2DConditionModel, base: Base, batch: Batch, min_snr_gamma: float | None = None
) -> torch.Tensor:
    """Mean squared error of the predicted noise or velocity (the scheduler says which) of each example, [N].

    With `min_snr_gamma` the errors are weighted as in arXiv 2303.09556. Raises ValueError for a
    prediction type that is neither.
    """
    scheduler = base.scheduler
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        target = batch.noise
    elif kind == "v_prediction":
        target = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
    else:
        raise ValueError(f"{base.path}: prediction type '{kind}' cannot be trained")
    drawn = unet(noisy, batch.timesteps, encoder_hidden_states=batch.text).sample
    errors = F.mse_loss(drawn.float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    if min_snr_gamma is None:
        return errors
    snr = compute_snr(scheduler, batch.timesteps)
    weight = snr.clamp(max=min_snr_gamma) / (snr + 1 if kind == "v_prediction" else snr)
    return errors * weight
