"""Style retrieval: is a generated drawing taken for the real one of that thing in that style?

A gallery holds the real drawings of some names in all four styles. By the dual encoder's embeddings the
nearest of them to a generated drawing should be that name's in that style; its style is right where the
nearest is at least another thing's in that style.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from client.diffusion import emoji
from client.diffusion.base import Base, to_model
from client.diffusion.data import BASE_STYLE, held_out, load_emoji
from client.diffusion.dual_encoder import Embeddings, Judge, load_judge

STYLES = tuple(emoji.STYLES)
Split = Literal["unseen", "known"]
SPLITS: tuple[Split, ...] = ("unseen", "known")
"""Names that nobody trains on in any style; as many that the base has learned to draw in its own style."""


@dataclass(frozen=True)
class Answers:
    """One a query: `ranks` int64 [N] of the right drawing, 1 for the nearest; `right_style` bool [N];
    `features` float32 [N, WIDTH] of the drawing asked by."""

    names: NDArray[np.str_]
    styles: NDArray[np.str_]
    ranks: NDArray[np.int64]
    right_style: NDArray[np.bool_]
    features: Embeddings


class Gallery:
    """Real drawings to be found, and what they look like to the judge. Raises DataError."""

    def __init__(self, judge: Judge, split: Split) -> None:
        self._judge = judge
        self.names = gallery_names(split)
        images = {style: _drawings(style, self.names) for style in STYLES}
        self.images: dict[str, NDArray[np.uint8]] = images
        self.features = {style: judge.drawings(images[style]) for style in STYLES}

    def __len__(self) -> int:
        return len(self.names) * len(STYLES)

    def ask(self, images: NDArray[np.uint8], names: list[str], styles: list[str]) -> Answers:
        """By images uint8 [N, height, width, 3] of `names` in `styles`, each in the gallery."""
        features = self._judge.drawings(images)
        everything = np.concatenate([self.features[style] for style in STYLES])
        similar = features @ everything.T
        place = {name: index for index, name in enumerate(self.names.tolist())}
        right = np.array(
            [
                STYLES.index(style) * len(self.names) + place[name]
                for name, style in zip(names, styles, strict=True)
            ]
        )
        own = similar[np.arange(len(names)), right]
        return Answers(
            np.array(names),
            np.array(styles),
            # A drawing that is as near as the right one counts against it.
            (similar >= own[:, None]).sum(axis=1),
            similar.argmax(axis=1) // len(self.names) == right // len(self.names),
            features,
        )


@lru_cache(maxsize=len(SPLITS))
def load_gallery(split: Split) -> Gallery:
    """As the shipped dual encoder sees it; once a process. Raises DataError and BaseError."""
    return Gallery(load_judge(), split)


def gallery_names(split: Split) -> NDArray[np.str_]:
    """One name of each family, so that no variant of a drawing competes with it; both splits equally many."""
    names = load_emoji(BASE_STYLE).names.tolist()
    families = {emoji.family(name): name for name in reversed(names)}
    unseen, known = (
        np.array(sorted(name for name in families.values() if held_out(name) is kept))
        for kept in (True, False)
    )
    return unseen if split == "unseen" else spread(known, len(unseen))


def spread(names: NDArray[np.str_], count: int) -> NDArray[np.str_]:
    """So many of them, or all, evenly over their order."""
    return names[np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)]


def _drawings(style: str, names: NDArray[np.str_]) -> NDArray[np.uint8]:
    examples = load_emoji(style)
    place = {name: index for index, name in enumerate(examples.names.tolist())}
    return examples.images[[place[name] for name in names.tolist()]]


@torch.no_grad()
def redraw(base: Base, images: NDArray[np.uint8], noise: float = 0.0, seed: int = 0) -> NDArray[np.uint8]:
    """Images uint8 [N, height, width, 3] as the base's decoder draws them: no sample can be truer.

    `noise` is added to their latents, in units of these (which have unit spread).
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for chunk in torch.split(torch.from_numpy(images), 32):
        latents = base.vae.encode(to_model(chunk)).latent_dist.mode()
        latents = latents + noise * torch.randn(latents.shape, generator=generator)
        drawn.append(base.vae.decode(latents).sample.float().permute(0, 2, 3, 1))
    return to_pixels(torch.cat(drawn).add(1).div(2).numpy())


def to_pixels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """0..1 -> 0..255."""
    return (images * 255).round().clip(0, 255).astype(np.uint8)
