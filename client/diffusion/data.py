"""Captioned images: the emoji data set and any `imagefolder`, and what of them is held out.

`python -m client.diffusion.data` fetches and renders the emoji once. Everything else only reads, and
says so in one line where there is nothing to read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from dataclasses import dataclass, fields
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from client.diffusion import emoji

HELD_OUT = 0.1
"""Share of the emoji families that nobody trains on."""

BASE_STYLE = "noto"
"""The style the base model is pre-trained on; the devices own the others."""

DEVICE_STYLES = ("twemoji", "openmoji", "fluent")
"""The styles dealt to devices, in this order."""


class DataError(ValueError):
    """A data set is missing or malformed; the message names the path and the remedy."""


@dataclass(frozen=True)
class Examples:
    """Captioned images: `images` uint8 [N, height, width, 3]; the others one string an image, [N]."""

    images: NDArray[np.uint8]
    captions: NDArray[np.str_]
    names: NDArray[np.str_]
    styles: NDArray[np.str_]
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)

    def select(self, which: NDArray[np.integer] | NDArray[np.bool_]) -> Examples:
        """The examples at these indices, or where this mask is true."""
        return Examples(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def join(cls, parts: list[Examples]) -> Examples:
        """All examples of `parts`, in order."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))


def emoji_folder() -> Path:
    """Where the rendered emoji live: `.cache/emoji` in the repository, or under $FEDCELL_CACHE."""
    root = os.environ.get("FEDCELL_CACHE")
    return (Path(root) if root else Path(__file__).parents[2] / ".cache") / "emoji"


def held_out(name: str) -> bool:
    """Whether an emoji's family is kept from all training, pre-training included.

    A hash decides, so the split depends on nothing but the name.
    """
    digest = hashlib.sha256(f"fedcell held-out {emoji.family(name)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT * 2**64


def load_emoji(style: str) -> Examples:
    """All emoji of one style (or `emoji.EXTRA`), held-out ones included. Raises DataError when not set up."""
    folder = emoji_folder()
    path = folder / f"{style}.npz"
    if not emoji.is_built(folder) or not path.is_file():
        raise DataError(f"the emoji data set is not in {folder}: run `make setup`")
    with np.load(path) as stored:
        names = stored["names"]
        drawn_by = BASE_STYLE if style == emoji.EXTRA else style
        styles = np.full(len(names), drawn_by)
        return Examples(stored["images"], stored["captions"], names, styles, stored["groups"])


def training_emoji(style: str) -> Examples:
    """One style's emoji without the held-out ones."""
    examples = load_emoji(style)
    return examples.select(np.array([not held_out(name) for name in examples.names]))


def held_out_emoji(style: str) -> Examples:
    """One style's held-out emoji."""
    examples = load_emoji(style)
    return examples.select(np.array([held_out(name) for name in examples.names]))


def load_imagefolder(folder: Traversable, size: int) -> Examples:
    """An `imagefolder`: image files beside a metadata.jsonl whose lines give file_name and text.

    `folder` may be a zipfile.Path, an archive of one. Images are cropped to their central square and scaled
    to `size` x `size`. Optional keys `style` and `group` partition the data; `style` is "image" and `group`
    "" where they are absent. Raises DataError, naming file and line, for anything missing or malformed.
    """
    metadata = folder / "metadata.jsonl"
    try:
        lines = metadata.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{folder} is not an image data set: {metadata} cannot be read") from error
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, text = row["file_name"], row["text"]
            image = _read_square(folder / name, size)
        except (ValueError, KeyError, TypeError, OSError, UnidentifiedImageError) as error:
            what = f"no key {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise DataError(f"{metadata}, line {number}: {what}") from error
        rows.append((image, str(text), str(name), str(row.get("style", "image")), str(row.get("group", ""))))
    if not rows:
        raise DataError(f"{metadata} lists no image")
    images, *texts = zip(*rows, strict=True)
    return Examples(np.stack(images), *(np.array(column) for column in texts))


def _read_square(path: Traversable, size: int) -> NDArray[np.uint8]:
    with path.open("rb") as file, Image.open(file) as image:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS, box=box))


def load_training(spec: str, size: int) -> Examples:
    """The training examples devices share: `emoji` (every style but the base's) or an imagefolder's path."""
    if spec == "emoji":
        return Examples.join([training_emoji(style) for style in DEVICE_STYLES])
    examples = load_imagefolder(Path(spec), size)
    return examples.select(_folder_split(len(examples)))


def load_held_out(spec: str, size: int) -> Examples:
    """What `load_training` keeps back, in every style: for emoji the base's own style too."""
    if spec == "emoji":
        return Examples.join([held_out_emoji(style) for style in (BASE_STYLE, *DEVICE_STYLES)])
    examples = load_imagefolder(Path(spec), size)
    return examples.select(~_folder_split(len(examples)))


def _folder_split(count: int) -> NDArray[np.bool_]:
    """Mask [count] of an imagefolder's training images: all but a fixed random tenth, at least one."""
    if count < 2:
        raise DataError("an image data set needs two images at least, one to train on and one held out")
    keep = np.ones(count, bool)
    keep[np.random.default_rng(0).permutation(count)[: max(1, round(HELD_OUT * count))]] = False
    return keep


def main() -> int:
    """Command line: fetch and render the emoji, unless that is done."""
    parser = argparse.ArgumentParser(prog="python -m client.diffusion.data", description=main.__doc__)
    parser.add_argument("--folder", type=Path, default=emoji_folder(), help="default: %(default)s")
    folder = parser.parse_args().folder
    try:
        emoji.build(folder, lambda line: print(line, file=sys.stderr, flush=True))
    except emoji.FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the emoji data set is in {folder}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
