"""Processes that compute beside a measurement: what a machine that also trains does to the links."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Load:
    """`processes` of the Python command line `arguments`, each of which computes without end."""

    name: str
    title: str
    processes: int = 0
    arguments: tuple[str, ...] = ()


IDLE = Load("idle", "idle")
BUSY = Load("2 busy", "2 busy processes", 2, ("-SEc", "while True: pass"))
TRAINING = Load("2 training", "2 trainings", 2, ("-m", "experiments.bench.endless_training"))
LOADS = (IDLE, BUSY, TRAINING)


class Loaded:
    """The load, as nice as this process, from `with` to the block's end."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Loaded:
        command = [sys.executable, *self._load.arguments]
        self._processes = [subprocess.Popen(command) for _ in range(self._load.processes)]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes = []

    def violations(self) -> list[str]:
        """Of its processes, those that have ended by themselves: what was measured was not beside them."""
        what = " ".join(self._load.arguments)
        ended = [status for process in self._processes if (status := process.poll()) is not None]
        return [f"no load: `python {what}` ended by itself, with status {status}" for status in ended]

    def cpu_s(self) -> float:
        """CPU time that it has used so far: a load that did not run is no load."""
        ticks = 0
        for process in self._processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # proc_pid_stat(5): utime, stime
        return ticks / os.sysconf("SC_CLK_TCK")
