"""Who owned what in a run, from its manifest's configuration: dealt again as the devices dealt it."""

from __future__ import annotations

from typing import Any

from client.diffusion import emoji
from client.diffusion.data import Examples, load_training
from client.diffusion.partition import Partition


def device_names(config: dict[str, Any]) -> list[str]:
    """dev0, dev1, ... as many as were configured."""
    count = sum(device.get("count", 1) for device in config["network"]["devices"])
    return [f"dev{index}" for index in range(count)]


def owned(config: dict[str, Any]) -> list[Examples]:
    """Each device's training examples, dev0's first. Raises DataError and BaseError."""
    training = config["training"]
    everything = load_training(training["data"], image_size(config))
    count = len(device_names(config))
    shares = Partition.parse(training["partition"]).deal(everything, count, config["seed"])
    return [everything.select(share) for share in shares]


def image_size(config: dict[str, Any]) -> int:
    """Width and height of the images that devices train on, pixels. Raises BaseError."""
    if config["training"]["data"] == "emoji":
        return emoji.SIZE
    from client.diffusion.base import load_base  # torch: only where the base decides

    return load_base(config["base"]).image_size
