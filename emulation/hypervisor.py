"""What a virtual machine does not get of its processors."""

from __future__ import annotations

import os
import time
from pathlib import Path

SPOILING_SHARE = 0.001
"""With more of the processors stolen, what went wrong meanwhile may be the hypervisor's doing."""

_BUSY_S, _PAUSE_S, _CALM_WITHIN_S = 2.0, 5.0, 120.0


def stolen_s() -> float:
    """Processor time that the hypervisor gave to others while this machine wanted it, since it started.

    proc_stat(5); zero on a machine of its own.
    """
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")


def wait_for_calm(at_most_s: float = _CALM_WITHIN_S) -> float:
    """Return once nothing is stolen from a busy processor, or after `at_most_s`; the seconds that took.

    Only who wants a processor can be robbed of it: one is kept busy for two seconds at a time, with pauses.
    Call it while nothing is measured.
    """
    began = time.monotonic()
    while True:
        before_s, until = stolen_s(), time.monotonic() + _BUSY_S
        while time.monotonic() < until:
            pass
        waited_s = time.monotonic() - began
        if stolen_s() == before_s or waited_s + _PAUSE_S + _BUSY_S > at_most_s:
            return waited_s
        time.sleep(_PAUSE_S)


class Theft:
    """What the hypervisor takes from now on."""

    def __init__(self) -> None:
        self._began, self._before_s = time.monotonic(), stolen_s()

    def share(self) -> float:
        """Of all processors' time since then."""
        wanted_s = (time.monotonic() - self._began) * (os.cpu_count() or 1)
        return (stolen_s() - self._before_s) / wanted_s
