"""What a virtual machine does not get of its processors."""

from __future__ import annotations

import os
import time
from pathlib import Path

SPOILING_SHARE = 0.001
"""With more of the processors stolen, what went wrong meanwhile may be the hypervisor's doing."""


def stolen_s() -> float:
    """Processor time that the hypervisor gave to others while this machine wanted it, since it started.

    proc_stat(5); zero on a machine of its own.
    """
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


class Theft:
    """What the hypervisor takes from now on."""

    def __init__(self) -> None:
        self._began, self._before_s = time.monotonic(), stolen_s()

    def share(self) -> float:
        """Of all processors' time since then."""
        wanted_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return (stolen_s() - self._before_s) / wanted_s
