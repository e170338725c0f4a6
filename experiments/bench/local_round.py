"""How long a device's round of training takes on this machine with all of its cores training."""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from emulation.launcher import Launcher, LauncherError
from experiments import model
from experiments.config import Experiment

_ROUNDS = (1, 2, 3)
_LONGEST_S = 120.0


def measure_s(experiment: Experiment) -> float:
    """The median of some rounds' local training on every core at once, s: devices forked as a run forks them.

    New examples are encoded in each, as in a run's first rounds. Raises LauncherError.
    """
    devices, cores = len(experiment.expanded_devices()), len(os.sched_getaffinity(0))
    with TemporaryDirectory() as temporary, Launcher(Path(temporary) / "launcher.log") as launcher:
        folder = Path(temporary)
        model.load(experiment, launcher, folder / "initial.safetensors")
        names = [f"core{core}" for core in range(cores)]
        for core, name in enumerate(names):
            told = [json.dumps(model.task(experiment)), core % devices, devices, str(folder / name)]
            target, log = f"{__name__}:_train", folder / f"{name}.log"
            launcher.fork(name, target, told, namespace_of=None, log=log)
        deadline = time.monotonic() + _LONGEST_S
        while len(exits := launcher.exits()) < cores and time.monotonic() < deadline:
            time.sleep(0.1)
        for name in names:
            if exits.get(name) != 0:
                raise LauncherError(f"a round of training failed: {(folder / f'{name}.log').read_text()}")
        return statistics.median(s for name in names for s in json.loads((folder / name).read_text()))


def _train(task: str, device_index: int, device_count: int, answer: str) -> None:
    """In a fork: train, and write how long each round took."""
    from client.trainers import build_trainer

    trainer = build_trainer(task, device_index=device_index, device_count=device_count)
    adapter, took_s = np.zeros(trainer.layout.size, np.float32), []
    for number in _ROUNDS:
        began = time.monotonic()
        trainer.train(adapter, round_number=number)
        took_s.append(time.monotonic() - began)
    Path(answer).write_text(json.dumps(took_s))
