"""The adapter that round 1 starts from, written where the server reads it.

Called in the fork server, which has the base in memory; nothing else needs to load it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from proto.adapter import save_adapter


def write_diffusion(path: str, task: dict[str, Any], device_count: int) -> None:
    """Of a diffusers checkpoint; and make ready what the devices, forked from here, will share."""
    from client.diffusion.base import load_base
    from client.diffusion.lora import initial_adapter, prepare

    prepare(device_count=device_count, **task)
    layout, adapter = initial_adapter(
        load_base(task["base"]), task["rank"], task["target_modules"], task["seed"]
    )
    save_adapter(Path(path), layout, adapter)


def write_synthetic(path: str, rank: int, seed: int) -> None:
    """Of Stable Diffusion v1.5's layout, without its weights."""
    from client.synthetic import initial_adapter, sd15_lora_layout

    layout = sd15_lora_layout(rank)
    save_adapter(Path(path), layout, initial_adapter(layout, seed))
