"""What can be seen to be missing before a network is built: the checkpoint, the data set."""

from __future__ import annotations

import json
import re
from pathlib import Path

from experiments.config import ConfigError, Experiment


class RunDirError(ValueError):
    """A folder that is not a run, or one with nothing to evaluate."""


def check_trained(run_dir: Path) -> None:
    """Raises RunDirError unless `run_dir` is a run that trained something; costs no import of torch."""
    try:
        config = json.loads((run_dir / "manifest.json").read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunDirError(f"{run_dir} is not a run: it has no manifest.json of one") from error
    if config["training"]["trainer"] == "synthetic":
        raise RunDirError(f"{run_dir} is a run of the synthetic trainer: nothing was trained to evaluate")


def check_inputs(experiment: Experiment) -> None:
    """Raises ConfigError, or the data set's own error, in one line."""
    if experiment.training.trainer == "synthetic":
        return
    from client.diffusion import data
    from client.diffusion.partition import Partition

    base = Path(experiment.base)
    if base.exists() and not (base / "model_index.json").is_file():
        raise ConfigError(f"model: {base} is no Stable Diffusion checkpoint (it holds no model_index.json)")
    looks_like_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", experiment.base) and not experiment.base.startswith(".")
    if not base.exists() and not looks_like_hub:
        raise ConfigError(f"model: there is no folder {base}; write bundled, sd15, a folder or a hub name")
    Partition.parse(experiment.training.partition)
    data.load_training(experiment.training.data, size=64)
