"""Busy processes beside a measurement: what a machine that also trains does to the links."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

_BUSY = "while True: pass"


class Hogs:
    """`count` processes that compute without end, as nice as this one, from `with` to the block's end."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Hogs:
        self._processes = [subprocess.Popen([sys.executable, "-SEc", _BUSY]) for _ in range(self.count)]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes = []

    def cpu_s(self) -> float:
        """CPU time that they have used so far: a load that did not run is no load."""
        ticks = 0
        for process in self._processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # proc_pid_stat(5): utime, stime
        return ticks / os.sysconf("SC_CLK_TCK")
