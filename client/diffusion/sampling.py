"""Drawing by a pipeline: prompts and seeds in, pictures out, the same for whoever asks."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from numpy.typing import NDArray

from client.diffusion.base import Base

GUIDANCE = 3.0

_TOKENIZING = threading.Lock()
"""A tokenizer keeps each call's padding in itself: two threads at once get one another's."""


def draw(
    base: Base, unet: UNet2DConditionModel, prompts: list[str], seeds: list[int], steps: int
) -> NDArray[np.float32]:
    """One image a prompt, [N, height, width, 3] in 0..1, by `steps` steps of DPM-Solver++ (arXiv 2211.01095).

    Each begins with the noise of its own seed: prompts with the same one can be compared. Threads may draw
    at once, with one base and one UNet.
    """
    with _TOKENIZING:
        wanted, nothing = base.encode_text(prompts), base.encode_text([""] * len(prompts))
    pipeline = base.pipeline(unet)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(base.scheduler.config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        drawn = pipeline(
            prompt_embeds=wanted,
            negative_prompt_embeds=nothing,
            height=base.image_size,
            width=base.image_size,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
        )
    images: NDArray[np.float32] = drawn.images
    return images
