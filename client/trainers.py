"""From the task that the server hands out to a trainer for this device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from client.sd15 import TARGET_MODULES, sd15_lora_layout, sd15_unet_layout
from client.synthetic import SyntheticTrainer
from client.training import Trainer, UnsupportedError, device_ranks
from proto.adapter import AdapterLayout


class TaskError(ValueError):
    """A task this device cannot do; the message names the key."""


def build_trainer(
    task_json: str, *, device_index: int, device_count: int, collected: Path | None = None
) -> Trainer:
    """The trainer of device `device_index` of `device_count`, or of the server, which trains on what the
    devices have sent: the files in `collected`, there when the first round trains. Raises TaskError."""
    try:
        task = json.loads(task_json)
        kind = task.pop("trainer")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise TaskError(f"the server's task names no trainer: {task_json[:80]}") from error
    try:
        if kind == "synthetic":
            layout = _synthetic_layout(task, device_index, device_count)
            return SyntheticTrainer(layout, device_index=device_index, collected=collected, **task)
        if kind == "diffusion":
            from client.diffusion.trainer import DiffusionTrainer  # torch: only for those who train

            return DiffusionTrainer(
                device_index=device_index, device_count=device_count, collected=collected, **task
            )
    except (TypeError, KeyError, UnsupportedError) as error:
        raise TaskError(f"the server's task for trainer '{kind}' does not fit: {error}") from error
    raise TaskError(f"unknown trainer '{kind}' in the server's task: synthetic or diffusion")


def _synthetic_layout(task: dict[str, Any], device_index: int, device_count: int) -> AdapterLayout:
    """What the task's `rank` and `target_modules` say, which are taken out of it."""
    # The server's own trainer stands behind the last device; all have one rank where there is one.
    rank = device_ranks(task.pop("rank"), device_count)[min(device_index, device_count - 1)]
    targets = task.pop("target_modules", TARGET_MODULES)
    return sd15_unet_layout() if rank == "full" else sd15_lora_layout(rank, targets)
