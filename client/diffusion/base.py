"""The base model: a Stable Diffusion pipeline, loaded once a process and never changed.

Any Stable Diffusion checkpoint works: a directory in diffusers' layout, or a hub name where a hub can
be reached. The default is the small one in `sd-emoji`, which `client.diffusion.pretrain` made.
"""

from __future__ import annotations

import copy
import ctypes
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

DEFAULT_BASE = Path(__file__).with_name("sd-emoji")
"""The checkpoint that comes with fedcell."""


class BaseError(ValueError):
    """Something is not a Stable Diffusion checkpoint; the message names it."""


@dataclass(frozen=True)
class Base:
    """The parts of a pipeline, float32, in evaluation mode, none of them requiring gradients.

    Shared between everything in this process and, after a fork, copy-on-write between processes: nobody
    changes it; an adapter goes onto `bare_unet()`.
    """

    path: str
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin

    @property
    def image_size(self) -> int:
        """Width and height the model draws, pixels."""
        return self.unet.config.sample_size * 2 ** (len(self.vae.config.block_out_channels) - 1)

    def bare_unet(self) -> UNet2DConditionModel:
        """A UNet to put an adapter on: its own modules around the base's very weights, not copies of them."""
        tensors = [*self.unet.parameters(), *self.unet.buffers()]
        return copy.deepcopy(self.unet, {id(tensor): tensor for tensor in tensors})

    @torch.no_grad()
    def encode_text(self, captions: list[str]) -> torch.Tensor:
        """Captions -> text states [N, tokens, width]."""
        return self.text_encoder(tokenize(self.tokenizer, captions))[0]

    @torch.no_grad()
    def encode_images(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Images uint8 [N, height, width, 3] -> scaled latents [N, channels, h, w] from the posterior."""
        posteriors = [self.vae.encode(to_model(chunk)).latent_dist for chunk in torch.split(images, 32)]
        latents = torch.cat([posterior.sample(generator) for posterior in posteriors])
        return latents * self.vae.config.scaling_factor

    def pipeline(self, unet: UNet2DConditionModel | None = None) -> StableDiffusionPipeline:
        """The parts as a pipeline; `unet` stands in for the base's own."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the absent safety checker is meant
            pipeline = StableDiffusionPipeline(
                vae=self.vae,
                text_encoder=self.text_encoder,
                tokenizer=self.tokenizer,
                unet=self.unet if unet is None else unet,
                scheduler=self.scheduler,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Captions -> token ids int64 [N, tokens], padded and cut to the model's length."""
    return tokenizer(
        captions,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids


def to_model(images: torch.Tensor) -> torch.Tensor:
    """Images uint8 [N, height, width, 3] -> float32 [N, 3, height, width] in -1..1."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def load_base(path: str | Path = DEFAULT_BASE) -> Base:
    """The base model at `path`, or `bundled`; loaded once a process. Raises BaseError for no checkpoint."""
    return _load(str(DEFAULT_BASE if path == "bundled" else path))


@lru_cache(maxsize=2)
def _load(path: str) -> Base:
    folder = Path(path)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise BaseError(f"{path} is not a Stable Diffusion checkpoint: it has no model_index.json")
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # One thread, whatever the process uses later: threads of torch's pool would not survive a fork.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline = StableDiffusionPipeline.from_pretrained(
                path,
                torch_dtype=torch.float32,
                safety_checker=None,
                requires_safety_checker=False,
                local_files_only=folder.exists(),
            )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BaseError(f"{path} is not a Stable Diffusion checkpoint: {reason}") from error
    finally:
        torch.set_num_threads(threads)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.eval().requires_grad_(False)
    return Base(
        path, pipeline.vae, pipeline.text_encoder, pipeline.tokenizer, pipeline.unet, pipeline.scheduler
    )


def limit_threads(count: int = 1) -> None:
    """Let torch compute with `count` threads in this process; a client takes one.

    More would make results depend on the machine and, with a process a core, only compete.
    """
    torch.set_num_threads(count)


def give_memory_back() -> None:
    """Return what malloc keeps for later to the system (malloc_trim(3)); where it cannot, it keeps it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
