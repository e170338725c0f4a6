"""What can be seen to be missing before a network is built: availability trace, checkpoint, data set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from experiments.config import ConfigError, Experiment
from server.selection import SelectionError, read_availability


class EvaluationError(ValueError):
    """A directory that cannot be evaluated; the message says why."""


def read_trained_manifest(run_dir: Path) -> dict[str, Any]:
    """The manifest of a run that trained something; costs no import of torch. Raises EvaluationError."""
    try:
        manifest: dict[str, Any] = json.loads((run_dir / "manifest.json").read_text())
        trainer = manifest["config"]["training"]["trainer"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"{run_dir} is not a run: it has no manifest.json that names its training"
        ) from error
    if trainer != "diffusion":
        raise EvaluationError(f"{run_dir} is a run of the {trainer} trainer: it trained nothing to evaluate")
    return manifest


def check_inputs(experiment: Experiment) -> None:
    """Raises ConfigError, or the data set's own error, in one line."""
    _check_availability(experiment)
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


def _check_availability(experiment: Experiment) -> None:
    federation = experiment.federation
    if federation.availability is None:
        return
    names = [name for name, _ in experiment.expanded_devices()]
    try:
        read_availability(federation.availability, names, federation.availability_period)
    except SelectionError as error:
        raise ConfigError(f"federation.availability: {error}") from error
