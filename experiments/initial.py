"""The adapter that round 1 starts from, written where the server reads it.

Called in the fork server, which has the base in memory; nothing else needs to load it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client.training import Rank
from proto.adapter import save_adapter


def write_diffusion(path: str, task: dict[str, Any], device_count: int) -> None:
    """Of a diffusers checkpoint; and make ready what the devices, forked from here, will share."""
    from client.diffusion.base import load_base
    from client.diffusion.full import FullUNet
    from client.diffusion.lora import initial_adapter
    from client.diffusion.trainer import prepare

    prepare(device_count=device_count, **task)
    base, rank = load_base(task["base"]), _largest(task["rank"])
    if rank == "full":
        unet = FullUNet(base)
        save_adapter(Path(path), unet.layout, unet.read())
    else:
        save_adapter(Path(path), *initial_adapter(base, rank, task["target_modules"], task["seed"]))


def write_synthetic(path: str, task: dict[str, Any]) -> None:
    """Of Stable Diffusion v1.5's layout, or of what is sent of it, without its weights.

    Takes memory for one such vector.
    """
    from client.sd15 import sd15_layout
    from client.synthetic import initial_adapter

    layout = sd15_layout(_largest(task["rank"]), task["target_modules"], task.get("values"))
    save_adapter(Path(path), layout, initial_adapter(layout, task["seed"]))


def _largest(rank: Rank | list[int]) -> Rank:
    """Of a task's ranks: the server's own adapter holds every device's."""
    return max(rank) if isinstance(rank, list) else rank
