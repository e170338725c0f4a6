"""Updates of real devices for `fedcell bench codecs`, and how they were made.

`python -m experiments.bench.codecs_record` has three devices fine-tune the bundled base for one round, each
on one drawing style of the emoji (partition `style`): LoRA of rank 4 on the attention projections, 20 AdamW
steps of batch 16, learning rate 1e-3, seed 0. What is recorded is the difference between the adapter after
and before (B was zero, A random), as float16; about a minute on one core. They are changes of weights and
hold no drawing; those they were learnt from are OpenMoji's (CC-BY-SA-4.0), Twemoji's (CC-BY-4.0) and
Fluent's (MIT).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from proto.adapter import Vector

UPDATES = Path(__file__).parent / "data" / "lora_updates.safetensors"
_DEVICES = 3
_RANK = 4
_METADATA = {
    "model": "bundled",
    "rank": "4",
    "data": "emoji",
    "partition": "style",
    "steps": "20",
    "batch_size": "16",
    "learning_rate": "1e-3",
    "seed": "0",
    "made_by": "python -m experiments.bench.codecs_record",
}


def load_updates() -> list[Vector]:
    """One float32 vector for each device."""
    return [vector.astype(np.float32) for _, vector in sorted(load_file(UPDATES).items())]


def record() -> list[Vector]:
    """Train, and return each device's update."""
    from client.diffusion.base import load_base
    from client.diffusion.lora import TARGET_MODULES, initial_adapter
    from client.diffusion.trainer import DiffusionTrainer

    _, before = initial_adapter(load_base("bundled"), _RANK, list(TARGET_MODULES), 0)
    updates = []
    for index in range(_DEVICES):
        trainer = DiffusionTrainer(
            base="bundled",
            data="emoji",
            partition="style",
            device_index=index,
            device_count=_DEVICES,
            rank=_RANK,
            steps=20,
            batch_size=16,
            learning_rate=1e-3,
            seed=0,
        )
        updates.append(trainer.train(before, round_number=1).vector - before)
    return updates


def main() -> None:
    """Record the updates anew."""
    halves = {f"device{index}": update.astype(np.float16) for index, update in enumerate(record())}
    save_file(halves, UPDATES, metadata=_METADATA)
    print(f"{UPDATES}: {len(halves)} updates of {halves['device0'].size} values")


if __name__ == "__main__":
    main()
