"""A sweep's folder: what of it is done, and one sweep at a time in it.

sweep.json results.csv rounds.csv figures/
trials/<id>/    config.yaml log.txt ended.json and the run's own directory
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.record import write_manifest
from experiments.sweep.code_version import code_version
from experiments.sweep.process import Ending
from experiments.sweep.trial import Trial

_ENDED = "ended.json"


@dataclass(frozen=True)
class Record:
    """How a trial ended: see Ending; `evaluation` its options, None without one; `earlier` the reasons of
    invalid tries that were thrown away."""

    ending: Ending
    fingerprint: str
    code: str
    evaluation: tuple[str, ...] | None
    earlier: tuple[str, ...] = ()


class Store:
    """The folder of one sweep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def folder_of(self, trial: Trial) -> Path:
        return self.folder / "trials" / trial.id

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else's sweep writes here meanwhile. Raises ConfigError where one does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(f"{self.folder}: another sweep is running there") from error
            yield

    def read(self, trial: Trial) -> Record | None:
        """How the trial ended; None if it never did, or with other code, or what it left is not whole."""
        folder = self.folder_of(trial)
        try:
            values = json.loads((folder / _ENDED).read_text())
            evaluation = None if values["evaluation"] is None else (*values["evaluation"],)
            ending, earlier = Ending(**values["ending"]), (*values["earlier"],)
            record = Record(ending, values["fingerprint"], values["code"], evaluation, earlier)
            if record.fingerprint != trial.fingerprint or record.code != code_version():
                return None
            if record.ending.outcome != "failed":
                manifest = json.loads((folder / record.ending.run_dir / "manifest.json").read_text())
                if "ended" not in manifest:
                    return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record

    def write(
        self,
        trial: Trial,
        ending: Ending,
        *,
        evaluation: tuple[str, ...] | None,
        earlier: tuple[str, ...],
    ) -> Record:
        """The trial has ended, and this is how."""
        record = Record(ending, trial.fingerprint, code_version(), evaluation, earlier)
        write_manifest(asdict(record), self.folder_of(trial) / _ENDED)
        return record

    def is_of_other_code(self, trial: Trial) -> bool:
        """Whether it ended once, but by code that is no longer this."""
        try:
            code = json.loads((self.folder_of(trial) / _ENDED).read_text())["code"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return bool(code != code_version())

    def clear(self, trial: Trial) -> None:
        """Make the trial's folder anew, empty."""
        folder = self.folder_of(trial)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)

    def adapters_of(self, trial: Trial, record: Record) -> bool:
        """Whether the trial's run can still be evaluated; one of another machine left its adapters there."""
        return any((self.folder_of(trial) / record.ending.run_dir / "adapters").glob("*.safetensors"))

    def forget(self, trial: Trial) -> None:
        """Leave the trial's folder as it is, but not as one that has ended."""
        (self.folder_of(trial) / _ENDED).unlink()

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        write_manifest(manifest, self.folder / "sweep.json")
