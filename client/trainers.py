"""From the task that the server hands out to a trainer for this device."""

from __future__ import annotations

import json

from client.synthetic import SyntheticTrainer, sd15_lora_layout
from client.training import Trainer


class TaskError(ValueError):
    """A task this device cannot do; the message names the key."""


def build_trainer(task_json: str, *, device_index: int, device_count: int) -> Trainer:
    """The trainer of device `device_index` of `device_count`. Raises TaskError."""
    try:
        task = json.loads(task_json)
        kind = task.pop("trainer")
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise TaskError(f"the server's task names no trainer: {task_json[:80]}") from error
    try:
        if kind == "synthetic":
            layout = sd15_lora_layout(task.pop("rank"))
            return SyntheticTrainer(layout, device_index=device_index, **task)
        if kind == "diffusion":
            from client.diffusion.lora import DiffusionTrainer  # torch: only for those who train

            return DiffusionTrainer(device_index=device_index, device_count=device_count, **task)
    except (TypeError, KeyError) as error:
        raise TaskError(f"the server's task for trainer '{kind}' does not fit: {error}") from error
    raise TaskError(f"unknown trainer '{kind}' in the server's task: synthetic or diffusion")
