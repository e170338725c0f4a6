"""Pre-training, second stage: the UNet and the text encoder, together, on Noto's drawings alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from client.diffusion import data, emoji
from client.diffusion.architecture import build_scheduler, build_text_encoder, build_unet
from client.diffusion.base import to_model, tokenize
from client.diffusion.looks import LOOKS, redraw
from client.diffusion.workers import Team, Training

BATCH = 24
"""Images a process and step."""

SHIFTED_COPIES = 3
"""Shifted and scaled copies of every plain drawing that a process encodes once."""

SHIFTED, LOOK = 0.1, 0.25
"""Shares of the shifted copies and of the other looks; the rest is plain drawings. At the noisiest steps
the best answer to a caption is the mean of its copies, and many shifted ones make that a blur."""

_GAMMA = 5.0


@dataclass(frozen=True)
class Denoiser:
    """What this stage trains, and the scheduler it trains for."""

    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel
    scheduler: DDIMScheduler

    def loss(
        self, latents: torch.Tensor, ids: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor
    ) -> torch.Tensor:
        """Weighted squared error of the predicted velocity.

        Latents and noise [N, 16, 8, 8], token ids [N, 16], timesteps [N]. The weight min(1, gamma/(snr+1))
        is min-SNR's (arXiv 2303.09556) where there is more signal than noise, and 1 elsewhere: min-SNR
        proper would leave the noisiest steps, where sampling begins, untrained under v-prediction.
        """
        noisy = self.scheduler.add_noise(latents, noise, steps)
        target = self.scheduler.get_velocity(latents, noise, steps)
        drawn = self.unet(noisy, steps, self.text_encoder(ids)[0]).sample
        signal = self.scheduler.alphas_cumprod[steps]
        weight = (_GAMMA * (1 - signal)).clamp(max=1.0)  # snr + 1 = 1 / (1 - signal)
        return ((drawn - target).square().mean((1, 2, 3)) * weight).mean()


def train_unet(
    team: Team,
    folder: Path,
    minutes: float,
    seed: int,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    snapshot: Callable[[Denoiser, float, int, float], None],
    snapshot_minutes: float,
) -> None:
    """Train for `minutes`, resuming from `folder`.

    The leader calls snapshot(averaged model, minutes, steps, validation loss) now and then and at the end.
    """
    torch.manual_seed(seed)
    denoiser = Denoiser(build_unet(), build_text_encoder(tokenizer), build_scheduler())
    examples = data.Examples.join([data.training_emoji(data.BASE_STYLE), data.training_emoji(emoji.EXTRA)])
    sheets = _Sheets(vae, tokenizer, examples, np.random.default_rng([seed, team.rank]))
    check = _Validation(vae, tokenizer)
    training = Training(
        team,
        [denoiser.unet, denoiser.text_encoder],
        minutes=minutes,
        learning_rate=8e-4,
        weight_decay=1e-2,
        average=0.998,
        state=folder / "unet-state.pt",
    )
    random = np.random.default_rng([seed, team.rank, training.steps])
    torch.manual_seed(seed + 1000 * team.rank + training.steps)

    def finish() -> None:
        loss = check.loss(denoiser)
        print(f"unet validation loss {loss:.4f} after {training.steps} steps", flush=True)
        snapshot(denoiser, training.elapsed / 60, training.steps, loss)

    progress, report, next_snapshot = training.elapsed / (60 * minutes), 0.0, training.elapsed + 240
    while progress < 1:
        latents, ids = sheets.draw(random)
        # One timestep from each of BATCH equally likely parts of 0..999: less variance than independent
        # ones. Their density grows with t: below 500 the caption hardly changes the loss, so half of a
        # uniform draw would teach no content.
        strata = np.sqrt((np.arange(BATCH) + random.random(BATCH)) / BATCH)
        steps = torch.from_numpy(random.permutation((strata * 1000).astype(np.int64)))
        loss = denoiser.loss(latents, ids, torch.randn_like(latents), steps)
        progress = training.step(loss)
        if team.leads and training.elapsed >= report:
            print(f"unet {progress:6.1%} step {training.steps} loss {loss.item():.4f}", flush=True)
            report = training.elapsed + 30
        if team.leads and training.elapsed >= next_snapshot:
            training.save()
            training.averaged(finish)
            next_snapshot = training.elapsed + 60 * snapshot_minutes
    if team.leads:
        training.save()
        training.averaged(finish)


class _Sheets:
    """Every drawing training sees, encoded once: plain, shifted and in the other looks, with its captions."""

    def __init__(
        self,
        vae: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        examples: data.Examples,
        random: np.random.Generator,
    ) -> None:
        self._names = [name.replace("-", " ") for name in examples.names]
        self._tokenizer = tokenizer
        plain = to_model(torch.from_numpy(examples.images))
        shifted = [_transform(plain, random) for _ in range(SHIFTED_COPIES)]
        looks = [to_model(torch.from_numpy(redraw(examples.images, word))) for word in LOOKS]
        copies = [_encode(vae, images) for images in (plain, *shifted, *looks)]
        self._means = torch.stack([means for means, _ in copies])
        self._spreads = torch.stack([spreads for _, spreads in copies])
        self._words = [data.BASE_STYLE] * (1 + SHIFTED_COPIES) + list(LOOKS)
        self._shares = np.array(
            [1 - SHIFTED - LOOK]
            + [SHIFTED / SHIFTED_COPIES] * SHIFTED_COPIES
            + [LOOK / len(LOOKS)] * len(LOOKS)
        )

    def draw(self, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch: latents [BATCH, 16, 8, 8], sampled from the posterior, and token ids [BATCH, 16]."""
        copy = random.choice(len(self._shares), size=BATCH, p=self._shares)
        which = random.integers(len(self._names), size=BATCH)
        chosen = (torch.from_numpy(copy), torch.from_numpy(which))
        means, spreads = self._means[chosen].float(), self._spreads[chosen].float()
        captions = [
            self._caption(self._names[index], self._words[look], random)
            for index, look in zip(which, copy, strict=True)
        ]
        return means + spreads * torch.randn_like(means), tokenize(self._tokenizer, captions)

    @staticmethod
    def _caption(name: str, word: str, random: np.random.Generator) -> str:
        chance = random.random()
        if chance < 0.10:
            return ""  # for classifier-free guidance
        if chance < 0.15 and word == data.BASE_STYLE:
            return name
        return f"{name}, {word} style"


class _Validation:
    """The loss on held-out names at fixed noise and stratified timesteps."""

    def __init__(self, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> None:
        examples = data.held_out_emoji(data.BASE_STYLE)
        with torch.no_grad():
            self._latents = vae.encode(to_model(torch.from_numpy(examples.images))).latent_dist.mode()
        self._ids = tokenize(tokenizer, examples.captions.tolist())
        generator = torch.Generator().manual_seed(0)
        self._noise = torch.randn(4, *self._latents.shape, generator=generator)

    @torch.no_grad()
    def loss(self, denoiser: Denoiser) -> float:
        """Mean over four draws of noise, the timesteps of each spread evenly over 0..999."""
        count, total = len(self._latents), 0.0
        for turn, noise in enumerate(self._noise):
            steps = (torch.arange(count) * 4 + turn) * 997 % (4 * count) * 1000 // (4 * count)
            total += float(denoiser.loss(self._latents, self._ids, noise, steps))
        return total / len(self._noise)


@torch.no_grad()
def _encode(vae: AutoencoderKL, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Posterior means and deviations, float16 [N, 16, 8, 8] each."""
    posteriors = [vae.encode(chunk).latent_dist for chunk in torch.split(images, 64)]
    means = torch.cat([posterior.mean for posterior in posteriors])
    spreads = torch.cat([posterior.std for posterior in posteriors])
    return means.half(), spreads.half()


def _transform(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Every image scaled by 0.88 to 1.08 and shifted by up to 4 pixels, on white."""
    count, size = len(images), images.shape[-1]
    zoom = torch.from_numpy(1 / random.uniform(0.88, 1.08, count)).float()
    shift = torch.from_numpy(random.uniform(-8 / size, 8 / size, (count, 2))).float()
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = zoom
    matrix[:, :, 2] = shift
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    # grid_sample pads with 0; white is 1.
    return F.grid_sample(images - 1, grid, align_corners=False) + 1
