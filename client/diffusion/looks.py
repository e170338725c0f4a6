"""Other looks of the base's drawings, each with a style word of its own, made from the pixels alone.

A base that has seen one style only learns to ignore the word for it, and a device's fine-tuning then
changes every style alike. With a few looks the word has to be read. None of them is a device's style.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

_EDGE = 90
"""Least difference between neighbouring pixels, summed over the three colours, that gets a line."""

_SMALL = 0.7
"""Width of a small drawing against the plain one's."""


def outline(image: Image.Image) -> Image.Image:
    """Six plain colours, and a black line two pixels wide wherever two of them meet."""
    smooth = image.filter(ImageFilter.MedianFilter(5))
    colours = smooth.quantize(6, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    plain = np.asarray(colours.convert("RGB")).astype(np.int16)
    edge = np.zeros(plain.shape[:2], bool)
    across = np.abs(np.diff(plain, axis=1)).sum(-1) > _EDGE
    down = np.abs(np.diff(plain, axis=0)).sum(-1) > _EDGE
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return Image.fromarray(np.where(edge[..., None], 0, plain).astype(np.uint8))


def grey(image: Image.Image) -> Image.Image:
    """No colour."""
    return image.convert("L").convert("RGB")


def small(image: Image.Image) -> Image.Image:
    """Smaller, in the middle of a white sheet."""
    width, height = round(_SMALL * image.width), round(_SMALL * image.height)
    sheet = Image.new("RGB", image.size, "white")
    corner = ((image.width - width) // 2, (image.height - height) // 2)
    sheet.paste(image.resize((width, height), Image.Resampling.LANCZOS), corner)
    return sheet


LOOKS: dict[str, Callable[[Image.Image], Image.Image]] = {"outline": outline, "grey": grey, "small": small}
"""By style word."""


def redraw(images: NDArray[np.uint8], word: str) -> NDArray[np.uint8]:
    """The same drawings [N, height, width, 3] in the look named `word`."""
    return np.stack([np.asarray(LOOKS[word](Image.fromarray(image))) for image in images])
