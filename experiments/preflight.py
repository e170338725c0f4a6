"""What can be seen to be missing before a network is built: the checkpoint, the data set."""

from __future__ import annotations

import re
from pathlib import Path

from experiments.config import ConfigError, Experiment


def check_inputs(experiment: Experiment) -> None:
    """Raises ConfigError, or the data set's own error, in one line."""
    if experiment.training.trainer == "synthetic":
        return
    from client.diffusion import data

    base = Path(experiment.base)
    if base.exists() and not (base / "model_index.json").is_file():
        raise ConfigError(f"model: {base} is no Stable Diffusion checkpoint (it holds no model_index.json)")
    looks_like_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", experiment.base) and not experiment.base.startswith(".")
    if not base.exists() and not looks_like_hub:
        raise ConfigError(f"model: there is no folder {base}; write bundled, sd15, a folder or a hub name")
    data.load_training(experiment.training.data, size=64)
