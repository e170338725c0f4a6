"""The card that the trained dual encoder carries as its README.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from client.diffusion import emoji


@dataclass(frozen=True)
class Measured:
    """Of redrawn real drawings, among `drawings` in the gallery: shares found first, among the first five,
    and taken for their own style."""

    drawings: int
    recall_at_1: float
    recall_at_5: float
    style_accuracy: float


_CARD = """\
---
license: cc-by-sa-4.0
library_name: pytorch
---

# The dual encoder

{parameters:.2f} M parameters in fp16: a small convolutional encoder of 64x64 emoji drawings and a
bag-of-words encoder of their captions, with unit vectors of 128 values as output. `fedcell evaluate
--retrieval` judges generated drawings by it, the same for every run: it is frozen and is part of no
training that it judges.

```python
from client.diffusion.dual_encoder import load_judge

load_judge().drawings(images) @ load_judge().captions(["red apple, openmoji style"]).T   # cosines
```

## Training

    python -m client.diffusion.data
    python -m client.diffusion.train_dual_encoder --steps {steps} --seed {seed}

{steps} steps of {batch} drawings, minutes on one CPU core: InfoNCE (arXiv 2103.00020) between each training
drawing of the four styles, itself redrawn by the bundled base's decoder from noisy
latents, and its caption. A batch has every drawing in all four styles, so the style decides as much as
the thing. The tenth of the emoji that is held out from all training is held out here too.

## What it can do

Real drawings in the three device styles, redrawn by the base's decoder (so no sample can be truer),
against the originals of all four styles: the right one is the nearest (R@1) or among the five nearest
(R@5), or the nearest is at least one in its style.

| names | drawings | R@1 | R@5 | style |
|---|---:|---:|---:|---:|
{rows}
| chance | {drawings} | {chance_1:.1%} | {chance_5:.1%} | 25.0% |

*Unseen* names no model here has trained on. *Known* ones are of the training names: this encoder has
seen the very drawings that it is to find.

## Data and licences

{data}

The encoder is offered under the strictest of these, CC-BY-SA-4.0.

## Limits

It knows emoji of 64x64 pixels and nothing else, and words of their names only. What it calls near is no
human's judgement; distances on its features are comparable with each other and with nothing published.
"""


def dual_encoder_card(
    measured: Mapping[str, Measured], parameters: int, steps: int, batch: int, seed: int
) -> str:
    """The card's Markdown; `measured` by split of names."""
    drawings = next(iter(measured.values())).drawings
    return _CARD.format(
        parameters=parameters / 1e6,
        seed=seed,
        steps=steps,
        batch=batch,
        rows="\n".join(
            f"| {split} | {one.drawings} | {one.recall_at_1:.1%} | {one.recall_at_5:.1%} "
            f"| {one.style_accuracy:.1%} |"
            for split, one in measured.items()
        ),
        drawings=drawings,
        chance_1=1 / drawings,
        chance_5=5 / drawings,
        data="Drawings of "
        + "; ".join(f"{package} ({style})" for style, package in emoji.STYLES.items())
        + "; licences as in `client/diffusion/sd-emoji/README.md`.",
    )
