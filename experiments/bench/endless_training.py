"""`python -m experiments.bench.endless_training`: LoRA training of the bundled base until it is killed."""

from __future__ import annotations

import itertools

import numpy as np

from client.diffusion.base import DEFAULT_BASE
from client.diffusion.trainer import DiffusionTrainer


def main() -> None:
    """Rounds like the demo's, one after the other."""
    trainer = DiffusionTrainer(
        base=str(DEFAULT_BASE),
        data="emoji",
        partition="iid",
        device_index=0,
        device_count=1,
        rank=16,
        steps=20,
        batch_size=16,
        learning_rate=2e-3,
        seed=0,
    )
    adapter = np.zeros(trainer.layout.size, np.float32)
    for number in itertools.count(1):
        trainer.train(adapter, round_number=number)


if __name__ == "__main__":
    main()
