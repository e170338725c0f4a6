"""Writing a checkpoint: a Stable Diffusion directory in fp16 safetensors, whole or not at all."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPTextModel, CLIPTokenizer


def export(
    target: Path,
    *,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: SchedulerMixin,
    card: str,
) -> None:
    """Replace the checkpoint directory `target` by these parts, in fp16, with `card` as its README.md."""
    parts = {"vae": vae, "text_encoder": text_encoder, "unet": unet}
    halves = {name: copy.deepcopy(part).to(torch.float16) for name, part in parts.items()}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        fresh = Path(scratch) / "fresh"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the absent safety checker is meant
            StableDiffusionPipeline(
                **halves,
                tokenizer=tokenizer,
                scheduler=scheduler,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            ).save_pretrained(fresh, safe_serialization=True)
        # CLIP's own file format beside tokenizers' newer one, for readers of either.
        tokenizer.backend_tokenizer.model.save(str(fresh / "tokenizer"))
        # Unlike diffusers, transformers would compute in the precision that the file is stored in.
        config = fresh / "text_encoder" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
        (fresh / "README.md").write_text(card)
        if target.exists():
            target.rename(Path(scratch) / "old")
        fresh.rename(target)
        shutil.rmtree(Path(scratch) / "old", ignore_errors=True)
