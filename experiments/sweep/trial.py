"""A trial: one experiment of a sweep, checked before anything runs, and known by what it would measure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from experiments import config
from experiments.config import ConfigError, Experiment
from experiments.preflight import check_inputs
from experiments.sweep.grid import Point

Label = str | int | float
_ID_DIGITS = 12
FILE_KEYS = {"trace", "jitter_distribution", "topology", "availability", "file", "data", "model"}
"""Keys, at any depth, whose values may name a file or a folder that a run reads."""


@dataclass(frozen=True)
class Trial:
    """One experiment. `labels` become columns of every table: what sets this trial apart from the others.

    `fingerprint` is of all that decides what the run measures: the configuration and the contents of files
    that it names; where the results go and what the run is called are no part of it.
    """

    labels: dict[str, Label]
    experiment: Experiment
    fingerprint: str

    @property
    def id(self) -> str:
        """Short, and a folder's name."""
        return self.fingerprint[:_ID_DIGITS]

    def __str__(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.labels.items()) or self.experiment.name

    def to_yaml(self) -> str:
        """The experiment as a configuration file that stands for itself."""
        return yaml.safe_dump(json.loads(self.experiment.model_dump_json()), sort_keys=False)


def trial(file: Path, overrides: Sequence[str], labels: Mapping[str, Label]) -> Trial:
    """A trial with labels of one's own. Raises ConfigError."""
    experiment = config.load(file, overrides)
    if any(device.remote for _, device in experiment.expanded_devices()):
        raise ConfigError(f"{file}: a sweep cannot wait for remote devices; use `fedcell run`")
    return Trial(dict(labels), experiment, _fingerprint(experiment))


def trials(file: Path, points: Iterable[Point], overrides: Sequence[str] = ()) -> list[Trial]:
    """A trial for each point; what differs between points labels them. Raises ConfigError, naming the point.

    Also what can be seen to be missing before a run (experiments/preflight.py), and two points that are
    one experiment.
    """
    points = list(points)
    varied = [key for key in (points[0] if points else {}) if len({point[key] for point in points}) > 1]
    found = []
    for point in points:
        changes = [*overrides, *(f"{key}={value}" for key, value in point.items())]
        labels = {key: point[key] for key in varied}
        try:
            found.append(trial(file, changes, labels))
        except ConfigError as error:
            raise ConfigError(_at(labels, error)) from error
    check(found)
    return found


def check(wanted: Sequence[Trial]) -> None:
    """Raises ConfigError for trials that are the same or lack an input, or the data set's own error."""
    seen: dict[str, Trial] = {}
    for one in wanted:
        if (same := seen.get(one.fingerprint)) is not None:
            raise ConfigError(
                f"'{same}' and '{one}' are one experiment: each trial must differ in what it runs"
            )
        seen[one.fingerprint] = one
    inputs: set[str] = set()
    for one in wanted:
        needed = _inputs(one.experiment)
        if needed not in inputs:  # A data set is not read again for every trial.
            inputs.add(needed)
            try:
                check_inputs(one.experiment)
            except ConfigError as error:
                raise ConfigError(_at(one.labels, error)) from error


def _at(labels: Mapping[str, Label], error: ConfigError) -> str:
    where = " ".join(f"{key}={value}" for key, value in labels.items())
    return f"{error} (at {where})" if where else str(error)


def _inputs(experiment: Experiment) -> str:
    """Equal where check_inputs looks at the same."""
    training, federation = experiment.training, experiment.federation
    return repr(
        (
            *(experiment.base, training.trainer, training.data, training.partition),
            *(federation.availability, federation.availability_period, len(experiment.expanded_devices())),
        )
    )


def _fingerprint(experiment: Experiment) -> str:
    values = json.loads(experiment.model_dump_json(exclude={"output", "name"}))
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for path in sorted(set(_files(values))):
        digest.update(f"\0{path}\0".encode())
        digest.update(_contents(path))
    return digest.hexdigest()


def _files(values: object) -> Iterator[Path]:
    """The files and folders that a configuration names, where they are there."""
    if isinstance(values, list):
        for value in values:
            yield from _files(value)
    elif isinstance(values, dict):
        for key, value in values.items():
            if key in FILE_KEYS and isinstance(value, str):
                path = Path(re.sub(r"(?<=\.py):.*$", "", value))
                if path.exists():
                    yield path
            else:
                yield from _files(value)


def _contents(path: Path) -> bytes:
    """A digest of a file; of a folder, which may hold gigabytes, its files' names, lengths and times."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).digest()
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            stat = file.stat()
            digest.update(f"{file.relative_to(path)}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.digest()
