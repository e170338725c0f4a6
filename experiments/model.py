"""What the devices of a run share: the task they are told, and the model, loaded before they are forked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emulation.launcher import Launcher
from experiments.config import Experiment


def task(experiment: Experiment) -> dict[str, Any]:
    """What the devices are told to train; the keys are their trainers' arguments."""
    training = experiment.training
    adapter = experiment.adapter
    common: dict[str, Any] = {"trainer": training.trainer, "steps": training.steps, "seed": experiment.seed}
    mixed = any(device.rank for device in experiment.network.devices)
    common["rank"] = "full" if adapter.kind == "full" else experiment.ranks() if mixed else adapter.rank
    common["target_modules"] = adapter.target_modules
    central = training.scheme == "central"
    if training.trainer == "synthetic":
        raw = [experiment.central.images, experiment.central.image_bytes] if central else [0, 0]
        return common | {"examples": 1, "raw": raw}
    return common | {
        # Every machine has a bundled base of its own.
        "base": experiment.model if experiment.model == "bundled" else experiment.base,
        "data": training.data,
        "partition": training.partition,
        "batch_size": training.batch_size,
        "learning_rate": training.learning_rate,
        "min_snr_gamma": training.min_snr_gamma,
        "proximal_mu": training.proximal_mu,
        "raw": central,
    }


def load(experiment: Experiment, launcher: Launcher, initial: Path) -> None:
    """Load in the fork server what all devices share, and write the adapter that round 1 starts from."""
    launcher.preload("client.__main__:parser")  # imports gRPC before the first fork
    if experiment.training.trainer == "synthetic":
        launcher.preload("experiments.initial:write_synthetic", str(initial), task(experiment))
        return
    told = {key: value for key, value in task(experiment).items() if key != "trainer"}
    launcher.preload(
        "experiments.initial:write_diffusion", str(initial), told, len(experiment.expanded_devices())
    )
