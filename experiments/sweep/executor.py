"""What runs trials, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from experiments.sweep.process import Ending
from experiments.sweep.trial import Trial

_START_S = 900.0


@dataclass(frozen=True)
class Job:
    """A trial to run in its `folder`, and the options of its evaluation (None: it has none).

    `evaluate_only` names the run in the folder that has everything but that; `again`: it was invalid before.
    """

    trial: Trial
    folder: Path
    evaluation: tuple[str, ...] | None
    evaluate_only: str | None = None
    again: bool = False

    @property
    def limit_s(self) -> float:
        """No trial takes longer: its rounds close at their deadline, the rest has a quarter of an hour."""
        experiment = self.trial.experiment
        return _START_S + experiment.rounds * experiment.federation.round_deadline * experiment.dilation


class Executor(Protocol):
    """Runs jobs, as many at a time as it has room for."""

    name: str
    jobs: int
    """How many at a time."""
    evaluates_earlier: bool
    """Whether it can evaluate a run that was made before, where its adapters are still there."""

    def describe(self) -> str:
        """That in words, with the reason."""
        ...

    def room(self) -> bool: ...
    def start(self, job: Job) -> None: ...

    def ended(self) -> list[tuple[Job, Ending]]:
        """What has ended since the last look; its run directory is in the job's folder."""
        ...

    def stop(self) -> None:
        """End whatever runs; nothing of it is left."""
        ...
