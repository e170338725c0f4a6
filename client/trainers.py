"""From the task that the server hands out to a trainer for this device."""

from __future__ import annotations

import json
from typing import Any

from client.sd15 import TARGET_MODULES, sd15_layout
from client.synthetic import SyntheticTrainer
from client.training import Trainer, UnsupportedError, device_ranks
from proto.adapter import AdapterLayout


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
            layout = _synthetic_layout(task, device_index, device_count)
            return SyntheticTrainer(layout, device_index=device_index, **task)
        if kind == "diffusion":
            from client.diffusion.trainer import DiffusionTrainer  # torch: only for those who train

            return DiffusionTrainer(device_index=device_index, device_count=device_count, **task)
    except (TypeError, KeyError, UnsupportedError) as error:
        raise TaskError(f"the server's task for trainer '{kind}' does not fit: {error}") from error
    raise TaskError(f"unknown trainer '{kind}' in the server's task: synthetic or diffusion")


def _synthetic_layout(task: dict[str, Any], device_index: int, device_count: int) -> AdapterLayout:
    """What the task's `rank`, `target_modules` and `values` say, which are taken out of it."""
    rank = device_ranks(task.pop("rank"), device_count)[device_index]
    targets = task.pop("target_modules", TARGET_MODULES)
    return sd15_layout(rank, targets, task.pop("values", None))
