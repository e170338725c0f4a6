"""A small dual encoder of emoji drawings and their captions: what generated drawings are judged by.

Two towers end in unit vectors of one space, as in CLIP (arXiv 2103.00020): a drawing lies near its own
caption and near itself redrawn, and far from other drawings, the same thing in another style among them.
`client.diffusion.train_dual_encoder` trained it on the training drawings of all four styles; it is frozen.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTokenizer

from client.diffusion.base import DEFAULT_BASE, BaseError, to_model, tokenize

FOLDER = Path(__file__).with_name("dual-encoder")
WEIGHTS = "model.safetensors"
WIDTH = 128
"""Length of an embedding."""
IMAGE_SIZE = 64
"""Width and height it looks at, pixels; other sizes are scaled."""

_VOCABULARY, _WORD = 2048, 64
_CHUNK = 64

Embeddings = NDArray[np.float32]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(8, channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + self.inner(states)


class DualEncoder(nn.Module):
    """Drawings [N, 3, 64, 64] in -1..1, or token ids [N, tokens], -> unit vectors [N, WIDTH]."""

    def __init__(self) -> None:
        super().__init__()
        self.drawing = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            _Residual(128),
            nn.Conv2d(128, 160, 3, stride=2, padding=1),
            _Residual(160),
            nn.GroupNorm(8, 160),
            nn.SiLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 160, WIDTH),
        )
        self.words = nn.Embedding(_VOCABULARY, _WORD)
        self.caption = nn.Sequential(nn.Linear(_WORD, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
        # CLIP's initial temperature, 0.07, as the logarithm of its inverse.
        self.log_scale = nn.Parameter(torch.tensor(2.66))

    def embed_drawings(self, drawings: torch.Tensor) -> torch.Tensor:
        """Unit vectors [N, WIDTH] of drawings [N, 3, 64, 64] in -1..1."""
        return F.normalize(self.drawing(drawings).float(), dim=-1)

    def embed_captions(self, tokens: torch.Tensor, padding: int) -> torch.Tensor:
        """Unit vectors [N, WIDTH] of token ids int64 [N, tokens]: a bag of words; `padding` is no word."""
        there = (tokens != padding).unsqueeze(-1).float()
        mean = (self.words(tokens) * there).sum(1) / there.sum(1).clamp(min=1)
        return F.normalize(self.caption(mean).float(), dim=-1)


class Judge:
    """The frozen encoder, with its tokenizer. Raises BaseError where it cannot be read."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._model = DualEncoder()
        path = folder / WEIGHTS
        try:
            weights = load_file(path)
            self._model.load_state_dict({name: weight.float() for name, weight in weights.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            raise BaseError(
                f"{path} is not the dual encoder: {' '.join(str(error).split())[:200]}"
            ) from error
        self._model.eval().requires_grad_(False)
        self._tokenizer = load_tokenizer()

    @torch.no_grad()
    def drawings(self, images: NDArray[np.uint8]) -> Embeddings:
        """Unit vectors [N, WIDTH] of images uint8 [N, height, width, 3]."""
        found = []
        for chunk in torch.split(torch.from_numpy(images), _CHUNK):
            inputs = to_model(chunk)
            if inputs.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
                inputs = F.interpolate(inputs, (IMAGE_SIZE, IMAGE_SIZE), mode="area")
            found.append(self._model.embed_drawings(inputs))
        return torch.cat(found).numpy()

    @torch.no_grad()
    def captions(self, captions: list[str]) -> Embeddings:
        """Unit vectors [N, WIDTH] of captions."""
        tokens = tokenize(self._tokenizer, captions)
        return self._model.embed_captions(tokens, self._tokenizer.pad_token_id).numpy()


def load_tokenizer() -> CLIPTokenizer:
    """The bundled base's: its words are those of all four styles' captions."""
    return CLIPTokenizer.from_pretrained(DEFAULT_BASE / "tokenizer")


@lru_cache(maxsize=1)
def load_judge() -> Judge:
    """The one that comes with fedcell, loaded once a process."""
    return Judge()
