"""What a device of a run owns: the examples it was dealt, in every form in which they might leave it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from client.diffusion import emoji
from client.diffusion.data import Examples, load_training
from client.diffusion.partition import Partition

PIXELS, PLANES, FILE = "pixels", "planes", "file"
FORMS = (PIXELS, PLANES, FILE)
"""RGB rows as the trainer has them; the three colours one after the other; the file of an imagefolder."""


class Belongings:
    """One device's examples."""

    def __init__(self, examples: Examples, folder: Path | None) -> None:
        self._examples, self._folder = examples, folder

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def captions(self) -> list[bytes]:
        """In UTF-8."""
        return [str(caption).encode() for caption in self._examples.captions]

    def images(self, form: str) -> list[bytes]:
        """All images in one of FORMS; none where the data set has no files. Raises OSError."""
        if form == PIXELS:
            return [image.tobytes() for image in self._examples.images]
        if form == PLANES:
            return [np.moveaxis(image, 2, 0).tobytes() for image in self._examples.images]
        if self._folder is None:
            return []
        return [(self._folder / str(name)).read_bytes() for name in self._examples.names]


def device_names(config: dict[str, Any]) -> list[str]:
    """dev0, dev1, ... of a run's configuration, as in its manifest."""
    count = sum(device.get("count", 1) for device in config["network"]["devices"])
    return [f"dev{index}" for index in range(count)]


def belongings(config: dict[str, Any]) -> Iterator[Belongings]:
    """Each device's, dev0's first: loaded and dealt as the devices did it. Raises DataError, BaseError."""
    training = config["training"]
    everything = load_training(training["data"], image_size(config))
    partition = Partition.parse(training["partition"])
    folder = None if training["data"] == "emoji" else Path(training["data"])
    for share in partition.deal(everything, len(device_names(config)), config["seed"]):
        yield Belongings(everything.select(share), folder)


def image_size(config: dict[str, Any]) -> int:
    """Width and height of the images that devices train on, pixels. Raises BaseError."""
    if config["training"]["data"] == "emoji":
        return emoji.SIZE
    from client.diffusion.base import load_base  # torch: only where the base decides

    return load_base(config["base"]).image_size
