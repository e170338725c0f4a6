"""The objective, against what the scheduler says should be predicted."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from client.diffusion.base import Base
from client.diffusion.loss import denoising_loss
from tests.client.test_diffusion_lora import base, output, probe

__all__ = ["base"]


@pytest.mark.parametrize(("kind", "target"), [("epsilon", "noise"), ("v_prediction", "velocity")])
def test_the_loss_is_measured_against_what_the_scheduler_predicts(base: Base, kind: str, target: str) -> None:
    scheduler = type(base.scheduler).from_config(base.scheduler.config, prediction_type=kind)
    changed = dataclasses.replace(base, scheduler=scheduler)
    batch = probe(base)
    velocity = scheduler.get_velocity(batch.latents, batch.noise, batch.timesteps)
    wanted = {"noise": batch.noise, "velocity": velocity}[target]
    noisy = scheduler.add_noise(batch.latents, batch.noise, batch.timesteps)
    drawn = output(base.unet, dataclasses.replace(batch, latents=noisy))
    expected = (drawn - wanted).square().mean((1, 2, 3))
    with torch.no_grad():
        plain = denoising_loss(base.unet, changed, batch)
        weighted = denoising_loss(base.unet, changed, batch, min_snr_gamma=5.0)
    assert torch.allclose(plain, expected)
    signal = scheduler.alphas_cumprod[batch.timesteps]
    snr = signal / (1 - signal)
    assert torch.allclose(weighted, expected * snr.clamp(max=5) / (snr + (kind == "v_prediction")), rtol=1e-4)


def test_a_prediction_type_that_cannot_be_trained_is_refused(base: Base) -> None:
    scheduler = type(base.scheduler).from_config(base.scheduler.config, prediction_type="sample")
    with pytest.raises(ValueError, match="prediction type 'sample'"):
        denoising_loss(base.unet, dataclasses.replace(base, scheduler=scheduler), probe(base))
