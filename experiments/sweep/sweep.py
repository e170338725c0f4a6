"""Run the trials of a sweep that are not done yet, and tell what all of them came to."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from emulation import sandbox
from experiments.config import ConfigError
from experiments.record import write_table
from experiments.sweep.code_version import code_version
from experiments.sweep.executor import Executor, Job
from experiments.sweep.local import LocalExecutor
from experiments.sweep.process import Ending
from experiments.sweep.results import Rows, check_labels, rows_of, tables
from experiments.sweep.store import Store
from experiments.sweep.trial import Trial, check

_POLL_S = 0.1


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to; the columns of its tables are in experiments/sweep/results.py."""

    folder: Path
    results: pd.DataFrame
    rounds: pd.DataFrame
    ran: int
    """Trials that this call ran; the others were done."""

    @property
    def failed(self) -> pd.DataFrame:
        """The results that cannot be used: failed, invalid, or never run."""
        return self.results[~self.results["valid"].astype(bool)]

    @property
    def valid(self) -> bool:
        return self.failed.empty


def run_trials(
    trials: Sequence[Trial],
    output: Path,
    *,
    executor: Executor | None = None,
    evaluate: bool = False,
    evaluate_options: Sequence[str] = (),
    resume: bool = True,
    retry_invalid: bool = False,
    repeats: int = 0,
    about: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Sweep:
    """Run what is not done in `output`, by default on this machine; write its tables and sweep.json.

    A trial is done when it ended, valid or not, with the same configuration and the same code;
    `retry_invalid` runs the invalid ones again, without `resume` everything. `evaluate` adds held-out losses
    (`fedcell evaluate` with `evaluate_options`; what it writes is in the run directories). One that ends
    invalid is run again up to `repeats` times, as a busy machine may be to blame, and the reasons are kept.
    `about` goes into sweep.json. Tables are written after each trial.

    Must not run inside a sandbox, for each trial makes its own. Raises ConfigError, before anything runs,
    for trials that cannot be; KeyboardInterrupt when asked to stop, tables written and nothing left running.
    """
    if sandbox.inside():
        raise RuntimeError("a sweep's trials make sandboxes of their own: start it outside")
    trials = list(trials)
    check(trials)
    check_labels(trials)
    if evaluate:
        _check_evaluation(trials)
    store = Store(output)
    with store.locked():
        evaluation = tuple(evaluate_options) if evaluate else None
        work = _Work(trials, store, executor or LocalExecutor(trials), evaluation, repeats, about or {}, say)
        work.plan(resume=resume, retry_invalid=retry_invalid)
        work.run()
        return work.conclude()


def _check_evaluation(trials: Sequence[Trial]) -> None:
    for trial in trials:
        if trial.experiment.training.trainer == "synthetic":
            raise ConfigError(f"--evaluate: the synthetic trainer trains nothing to evaluate (at {trial})")


class _Work:
    """One call of run_trials."""

    def __init__(
        self,
        trials: list[Trial],
        store: Store,
        executor: Executor,
        evaluation: tuple[str, ...] | None,
        repeats: int,
        about: dict[str, Any],
        say: Callable[[str], None],
    ) -> None:
        self._trials, self._store, self._executor = trials, store, executor
        self._evaluation, self._repeats, self._about, self._say = evaluation, repeats, about, say
        self._rows: dict[str, Rows] = {}
        self._waiting: deque[Job] = deque()
        self._earlier: dict[str, tuple[str, ...]] = {}
        self._walls_s: list[float] = []
        self._started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._begin = time.monotonic()

    def plan(self, *, resume: bool, retry_invalid: bool) -> None:
        """What is done stays; the rest waits."""
        again = ("failed", "invalid") if retry_invalid else ("failed",)
        for trial in self._trials:
            record = self._store.read(trial) if resume else None
            whole = record is None or record.ending.outcome in again
            if record and not whole and self._evaluation in (None, record.evaluation):
                self._rows[trial.id] = rows_of(trial, record, self._store)
                continue
            evaluate_only = None
            if record and not whole and self._executor.evaluates_earlier:
                evaluate_only = record.ending.run_dir if self._store.adapters_of(trial, record) else None
            folder = self._store.folder_of(trial)
            self._waiting.append(Job(trial, folder, self._evaluation, evaluate_only))
        done = f", {len(self._rows)} of them done already" if self._rows else ""
        if stale := sum(map(self._store.is_of_other_code, self._trials)):
            done += f", {stale} run again for they are of other code"
        self._say(f"{len(self._trials)} trials{done}; {self._executor.describe()}")

    def run(self) -> None:
        """Until everything has ended; each ends by itself, or at its limit."""
        running = 0
        self._write()
        try:
            while self._waiting or running:
                while self._waiting and self._executor.room():
                    self._start(self._waiting.popleft())
                    running += 1
                ended = self._executor.ended()
                for job, ending in ended:
                    running -= 1
                    self._take(job, ending)
                if not ended:
                    time.sleep(_POLL_S)
        finally:
            if running:
                self._say(f"stopping {running} trial{'s' if running > 1 else ''}; the sweep can be resumed")
            self._executor.stop()
            self._write()

    def _start(self, job: Job) -> None:
        """In a clean folder, but for what is to be evaluated."""
        if job.evaluate_only is None:
            self._store.clear(job.trial)
        else:
            self._store.forget(job.trial)
        self._executor.start(job)

    def _take(self, job: Job, ending: Ending) -> None:
        trial, earlier = job.trial, self._earlier.get(job.trial.id, ())
        self._walls_s.append(ending.wall_s)
        if ending.outcome == "invalid" and len(earlier) < self._repeats:
            self._earlier[trial.id] = (*earlier, ending.reason)
            self._say(f"again: {trial}: INVALID: {ending.reason}")
            self._waiting.appendleft(Job(trial, job.folder, self._evaluation, again=True))
            return
        record = self._store.write(trial, ending, evaluation=self._evaluation, earlier=earlier)
        self._rows[trial.id] = rows_of(trial, record, self._store)
        self._write()
        left = len(self._trials) - len(self._rows)
        verdict = ending.outcome if not ending.reason else f"{ending.outcome.upper()}: {ending.reason}"
        self._say(
            f"[{time.monotonic() - self._begin:6.0f} s] {len(self._rows)}/{len(self._trials)} {trial}: "
            f"{verdict} ({ending.wall_s:.0f} s){self._to_go(left)}"
        )

    def _to_go(self, left: int) -> str:
        """The mean of what has ended, for all that has not."""
        if not left:
            return ""
        seconds = sum(self._walls_s) / len(self._walls_s) * left / min(self._executor.jobs, left)
        return f"; about {seconds / 60:.0f} min to go" if seconds >= 90 else f"; about {seconds:.0f} s to go"

    def _write(self) -> None:
        found = tables(self._trials, self._rows)
        write_table(found.results, self._store.folder / "results.csv")
        write_table(found.rounds, self._store.folder / "rounds.csv")
        self._store.write_manifest(self._manifest(found.results))

    def _manifest(self, results: pd.DataFrame) -> dict[str, Any]:
        keys = ["trial", *self._trials[0].labels, "outcome", "reason", "run_dir"] if self._trials else []
        return {
            **self._about,
            "started": self._started,
            "ended": None if len(self._rows) < len(self._trials) else time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "executor": self._executor.name,
            "at_a_time": self._executor.describe(),
            "evaluated": self._evaluation is not None,
            "code": code_version(),
            "machine": {
                "node": platform.node(),
                "kernel": platform.release(),
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
            },
            "valid": bool(results["valid"].astype(bool).all()),
            "trials": results[keys].astype(object).where(results[keys].notna(), None).to_dict("records"),
        }

    def conclude(self) -> Sweep:
        """After `run`: what it all came to."""
        found = tables(self._trials, self._rows)
        return Sweep(self._store.folder, found.results, found.rounds, ran=len(self._walls_s))
