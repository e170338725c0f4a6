"""The model card that every exported checkpoint carries as its README.md."""

from __future__ import annotations

from dataclasses import dataclass

from client.diffusion import data, emoji
from client.diffusion.looks import LOOKS


@dataclass(frozen=True)
class Measured:
    """What pre-training measured. PSNR in dB, per style, on held-out drawings; `batch` over all processes."""

    psnr: dict[str, float]
    validation_loss: float
    vae_minutes: float
    unet_minutes: float
    steps: int
    batch: int
    processes: int


_CARD = """\
---
license: cc-by-sa-4.0
library_name: diffusers
pipeline_tag: text-to-image
---

# sd-emoji

A small, real Stable Diffusion pipeline that draws emoji: autoencoder {vae:.1f} M parameters, text encoder
{text:.1f} M, UNet {unet:.1f} M; 64x64 images, 8x8x16 latents, v-prediction. It is fedcell's default base
model: devices fine-tune it with LoRA on drawing styles it has never been shown.

```python
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("client/diffusion/sd-emoji", safety_checker=None)
pipeline("red apple, noto style", num_inference_steps=30, guidance_scale=3.0).images[0]
```

## Training

    python -m client.diffusion.data
    {command}

It took {processes} processes of one CPU thread each, sharing their cores with other work:
{vae_minutes:.0f} minutes for the autoencoder, on the training drawings of all four styles;
{unet_minutes:.0f} minutes ({steps} steps of {batch}) for UNet and text encoder together, on Noto's training
drawings alone. A quarter of what these saw are the same drawings in another look, made from their pixels
and captioned with a word of its own ({looks}), so that the style word of a caption means something. The
vocabulary comes from the captions of all four styles. A tenth of the emoji, chosen by family so that no
gender or skin-tone variant slips through, is never trained on.

| measured on held-out drawings | |
|---|---|
{psnr}
| denoising loss, Noto (weighted velocity error) | {loss:.4f} |

## Data and licences

| style | package | licence of the drawings |
|---|---|---|
| noto | {noto} | Apache-2.0, Google |
| twemoji | {twemoji} | CC-BY-4.0, Twitter and contributors |
| openmoji | {openmoji} | CC-BY-SA-4.0, the OpenMoji project (openmoji.org) |
| fluent | {fluent} | MIT, Microsoft |

UNet and text encoder saw Noto's drawings only; the autoencoder saw all four. Drawings that a fine-tuned model
makes in a style follow that style's licence; the checkpoint itself is offered under the strictest of them,
CC-BY-SA-4.0.

## Limits

It knows about 1,500 emoji names by heart, and that is what it was trained for: plain things are recognisable,
small detail and lettering are blurred, people look alike. On names it was not trained on it is poor, and the
poorer the longer it trains (the loss above rises while the one on training drawings falls). Before
fine-tuning it draws a style word that it does not know as Noto.
"""


def model_card(measured: Measured, *, command: str, parameters: dict[str, int]) -> str:
    """The card's Markdown; `command` made the model, `parameters` counts those of vae, text and unet."""
    psnr = "\n".join(
        f"| autoencoder PSNR, {style} | {measured.psnr[style]:.1f} dB |"
        for style in (data.BASE_STYLE, *data.DEVICE_STYLES)
    )
    return _CARD.format(
        **{name: count / 1e6 for name, count in parameters.items()},
        **emoji.STYLES,
        looks=", ".join(LOOKS),
        vae_minutes=measured.vae_minutes,
        unet_minutes=measured.unet_minutes,
        steps=measured.steps,
        batch=measured.batch,
        processes=measured.processes,
        command=command,
        psnr=psnr,
        loss=measured.validation_loss,
    )
