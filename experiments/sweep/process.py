"""One trial as processes of its own: `fedcell run`, and if asked `fedcell evaluate` on what it left.

They are killed with whoever started them; whatever happens the trial's end is one line.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from emulation.sandbox import die_with_parent

Outcome = Literal["valid", "invalid", "failed"]

CONFIG, LOG, DOCUMENT = "config.yaml", "log.txt", "document.json"
_STOP_S = 20.0
"""A run that is interrupted takes its network down and writes its manifest."""


@dataclass(frozen=True)
class Ending:
    """What became of a trial: `invalid` has numbers that cannot be trusted, `failed` has none.

    `reason` one line, empty for a valid one. `run_dir` below the trial's folder, empty without a run.
    `wall_s` real seconds. `node` the machine that ran it.
    """

    outcome: Outcome
    reason: str
    run_dir: str
    wall_s: float
    node: str


class TrialProcess:
    """Starts at once, in `folder`, which is empty or holds the run `evaluate_only`. Ask `poll` how it goes.

    `config` is the trial's configuration file's text; relative paths in it start at `cwd`. `evaluation` the
    options of `fedcell evaluate`; None: it is not called.
    """

    def __init__(
        self,
        config: str,
        folder: Path,
        *,
        evaluation: Sequence[str] | None,
        limit_s: float,
        evaluate_only: str | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._folder, self._cwd = folder.resolve(), cwd
        self._evaluate = None if evaluation is None else ["evaluate", *evaluation]
        self._begin, self._limit_s = time.monotonic(), limit_s
        self._document: dict[str, Any] = {}
        (folder / CONFIG).write_text(config)
        self._log: IO[str] = (folder / LOG).open("a")
        if evaluate_only is None:
            self._running = "run"
            command = ["run", str(self._folder / CONFIG), f"output={self._folder}"]
        else:
            manifest = json.loads((folder / evaluate_only / "manifest.json").read_text())
            self._document = {key: manifest[key] for key in ("valid", "invalid_reasons")}
            self._document["run_dir"] = str(self._folder / evaluate_only)
            assert self._evaluate is not None
            self._running, command = "evaluate", [*self._evaluate, self._document["run_dir"]]
        self._process = self._start(command)

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        self._log_begin = (self._folder / LOG).stat().st_size
        with (self._folder / DOCUMENT).open("w") as document:
            # A session of its own: a terminal's Ctrl-C reaches it by `interrupt`, once.
            return subprocess.Popen(
                [sys.executable, "-m", "experiments.cli", *command, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=document,
                stderr=self._log,
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=partial(_prepare, os.getpid()),
            )

    def poll(self) -> Ending | None:
        """None while it runs."""
        status = self._process.poll()
        if status is None:
            if time.monotonic() - self._begin > self._limit_s:
                self.stop()
                return self._end("failed", f"took longer than {self._limit_s:.0f} s")
            return None
        document = _read((self._folder / DOCUMENT).read_text())
        if status not in (0, 1) or "run_dir" not in document:
            return self._end("failed", f"{self._running}: {self._last_words(status)}")
        if self._running == "run":
            self._document = document
            if self._evaluate is not None:
                self._running = "evaluate"
                self._process = self._start([*self._evaluate, document["run_dir"]])
                return None
        if self._document["valid"]:
            return self._end("valid", "")
        first, *more = self._document["invalid_reasons"]
        return self._end("invalid", first + (f" (and {len(more)} more)" if more else ""))

    def interrupt(self) -> None:
        """Ask it to end; `stop` waits for that."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        """End it, and return when nothing of it is left."""
        self.interrupt()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _end(self, outcome: Outcome, reason: str) -> Ending:
        self._log.close()
        run_dir = self._document.get("run_dir", "")
        return Ending(
            outcome=outcome,
            reason=" ".join(reason.split()),
            run_dir=str(Path(run_dir).relative_to(self._folder)) if run_dir else "",
            wall_s=time.monotonic() - self._begin,
            node=os.uname().nodename,
        )

    def _last_words(self, status: int) -> str:
        """The last line it logged that says something."""
        with Path(self._log.name).open(errors="replace") as log:
            log.seek(self._log_begin)
            lines = [line.strip() for line in log if line.strip()]
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        if not lines:
            return f"ended with status {status} and without a word"
        return re.sub(r"^fedcell: ", "", lines[-1])


def _prepare(parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # It may be ignored here, and would be there.


def _read(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
