"""Pre-training, first stage: an autoencoder for the drawings of every style."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from client.diffusion import data, emoji
from client.diffusion.architecture import build_vae
from client.diffusion.base import to_model
from client.diffusion.workers import Team, Training

BATCH = 16
"""Images a process and step."""

_KL = 3e-4
"""Weight of the mean KL divergence of one latent value: just enough to keep latents smooth."""


def train_vae(team: Team, folder: Path, minutes: float, seed: int) -> None:
    """Train for `minutes` and write the averaged weights to `folder`/vae.pt; resumes from `folder`."""
    torch.manual_seed(seed)
    vae = build_vae()
    parts = [data.training_emoji(style) for style in emoji.STYLES] + [data.training_emoji(emoji.EXTRA)]
    images = torch.from_numpy(data.Examples.join(parts).images)
    training = Training(
        team,
        [vae],
        minutes=minutes,
        learning_rate=2e-3,
        weight_decay=1e-3,
        average=0.995,
        state=folder / "vae-state.pt",
    )
    random = np.random.default_rng([seed, team.rank, training.steps])
    torch.manual_seed(seed + 1000 * team.rank + training.steps)
    progress, report, save = training.elapsed / (60 * minutes), 0.0, training.elapsed + 120
    while progress < 1:
        batch = to_model(images[torch.from_numpy(random.integers(len(images), size=BATCH))])
        batch = _jitter(batch, random)
        # bf16 runs on the processor's matrix units where it has some; elsewhere it is merely as fast.
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(batch).latent_dist
            drawn = vae.decode(posterior.sample()).sample
        loss = (
            reconstruction_loss(drawn.float(), batch)
            + _KL * posterior.kl().mean() / posterior.mean[0].numel()
        )
        progress = training.step(loss)
        if team.leads and training.elapsed >= report:
            print(f"vae {progress:6.1%} step {training.steps} loss {loss.item():.4f}", flush=True)
            report = training.elapsed + 15
        if team.leads and training.elapsed >= save:
            training.save()
            save = training.elapsed + 120
    if team.leads:
        training.save()
        training.averaged(lambda: _finish(vae, images, folder))


def reconstruction_loss(drawn: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Absolute and squared error, and the absolute error of horizontal and vertical differences (edges)."""
    error = drawn - image
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + error.square().mean() + 0.5 * edges


def _jitter(batch: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Shift a batch by up to three pixels, on white, and mirror every other one."""
    down, right = random.integers(-3, 4, size=2).tolist()
    shifted = F.pad(batch, (3 + right, 3 - right, 3 + down, 3 - down), value=1.0)[..., 3:-3, 3:-3]
    return shifted.flip(-1) if random.random() < 0.5 else shifted


@torch.no_grad()
def _finish(vae: AutoencoderKL, images: torch.Tensor, folder: Path) -> None:
    """Give every latent channel zero mean and unit spread, in the 1x1 convolutions; write the model."""
    sample = images[:: max(1, len(images) // 1024)]
    posterior = vae.encode(to_model(sample)).latent_dist
    mean = posterior.mean.mean((0, 2, 3))
    spread = (posterior.mean.var((0, 2, 3)) + posterior.var.mean((0, 2, 3))).sqrt()
    # Decoding first undoes the change: W(s z + m) + b, the encoder's output becomes (z - m) / s.
    after = vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight *= spread[None, :, None, None]
    before, channels = vae.quant_conv, len(mean)
    before.weight[:channels] /= spread[:, None, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) / spread
    before.bias[channels:] -= 2 * spread.log()
    vae.register_to_config(scaling_factor=1.0)
    torch.save(vae.state_dict(), folder / "vae.pt")


@torch.no_grad()
def measure_psnr(vae: AutoencoderKL, images: torch.Tensor) -> float:
    """Peak signal-to-noise ratio of reconstructed images uint8 [N, height, width, 3], dB, over all pixels."""
    errors = []
    for chunk in torch.split(images, 64):
        image = to_model(chunk)
        drawn = vae.decode(vae.encode(image).latent_dist.mode()).sample.clamp(-1, 1)
        errors.append((drawn - image).square().mean() * len(chunk))
    # The range is -1..1, so the peak is 2.
    return float(10 * torch.log10(4 * len(images) / torch.stack(errors).sum()))
