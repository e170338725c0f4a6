"""What a virtual machine does not get of its processors."""

from __future__ import annotations

import os
from pathlib import Path


def stolen_s() -> float:
    """Processor time that the hypervisor gave to others while this machine wanted it, since it started.

    proc_stat(5); zero on a machine of its own.
    """
    return int(Path("/proc/stat").read_text().split(maxsplit=9)[8]) / os.sysconf("SC_CLK_TCK")
