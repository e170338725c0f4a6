"""Trials on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from emulation.hypervisor import wait_for_calm
from experiments.sweep.executor import Job
from experiments.sweep.fit import fitting
from experiments.sweep.process import Ending, TrialProcess
from experiments.sweep.trial import Trial


class LocalExecutor:
    """As many trials at a time as do not spoil each other's timing, or `jobs` whatever that does."""

    name = "local"
    evaluates_earlier = True

    def __init__(self, trials: Sequence[Trial], jobs: int | None = None) -> None:
        self._fit = fitting([trial.experiment for trial in trials], len(os.sched_getaffinity(0)))
        self.jobs = jobs or self._fit.jobs
        self._running: dict[TrialProcess, Job] = {}

    def describe(self) -> str:
        text = f"{self.jobs} at a time"
        if self.jobs > self._fit.jobs:
            return f"{text}: WARNING: {self._fit.jobs} would fit, for {self._fit.reason}"
        return f"{text}: {self._fit.reason}"

    def room(self) -> bool:
        return len(self._running) < self.jobs

    def start(self, job: Job) -> None:
        if job.again and not self._running:  # It would be spoilt by what spoilt it before.
            wait_for_calm()
        process = TrialProcess(
            job.trial.to_yaml(),
            job.folder,
            evaluation=job.evaluation,
            limit_s=job.limit_s,
            evaluate_only=job.evaluate_only,
        )
        self._running[process] = job

    def ended(self) -> list[tuple[Job, Ending]]:
        found = [
            (process, job, ending)
            for process, job in self._running.items()
            if (ending := process.poll()) is not None
        ]
        for process, _, _ in found:
            del self._running[process]
        return [(job, ending) for _, job, ending in found]

    def stop(self) -> None:
        for process in self._running:
            process.interrupt()
        for process in self._running:
            process.stop()
        self._running.clear()
