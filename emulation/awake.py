"""Virtual processors that stay awake while links are measured. `python -m emulation.awake CPU` watches one.

A virtual processor that has nothing to do is given back to its hypervisor, and is away when the next frame
or timer wants it: until it is back milliseconds may pass, which the kernel counts as stolen. So each gets a
process of the idle class (SCHED_IDLE, sched(7)) that never sleeps, as the kernel parameter idle=poll would do
for the whole machine. It runs when nothing else of its session wants to; as sessions share processors like
equals (autogroup, sched(7)), its own is given the least share: with a full one trainings took twice as long.

Measured on two virtual processors beside others', sleeps of 200 us of two real-time processes: late by 0.13
to 0.65 ms at the 99th and 1.1 to 3.4 ms at the 99.9th percentile without, by 0.1 and 0.2 ms with it. Of two
runs each, in turns, 3.7 and 3.5 s were stolen without, 0.7 and 1.3 s with it; rounds took as long.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path, PurePosixPath

from emulation.sandbox import die_with_parent

_CPUINFO = Path("/proc/cpuinfo")
_OWN_CGROUPS, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class Awake:
    """Keeps the processors that this process may use awake, where that helps, from `start` to `stop`."""

    def __init__(self) -> None:
        self._watches: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Does nothing on a machine of its own, or where processor time is rationed."""
        if not is_virtual(_CPUINFO.read_text()) or is_rationed(_OWN_CGROUPS.read_text(), _CGROUPS):
            return
        for processor in sorted(os.sched_getaffinity(0)):
            self._watches.append(
                subprocess.Popen(
                    [sys.executable, "-m", "emulation.awake", str(processor)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # The terminal's Ctrl-C is for the run, which then stops us.
                    preexec_fn=partial(die_with_parent, os.getpid()),
                )
            )

    def stop(self) -> None:
        """Safe to call twice, and without a start."""
        for watch in self._watches:
            watch.kill()
        for watch in self._watches:
            watch.wait()
        self._watches.clear()


def is_virtual(cpuinfo: str) -> bool:
    """By the flags in /proc/cpuinfo. User-mode Linux, a process, shows its host's."""
    return "User Mode Linux" not in cpuinfo and any(
        line.startswith("flags") and "hypervisor" in line.split() for line in cpuinfo.splitlines()
    )


def is_rationed(own_cgroups: str, root: Path) -> bool:
    """Whether a cgroup (lines of /proc/self/cgroup) or one above it has a quota, which would be spent here.

    Without one cpu.max is "max PERIOD" (v2, Documentation/admin-guide/cgroup-v2.rst), and cpu.cfs_quota_us
    is -1 (v1, Documentation/scheduler/sched-bwc.rst).
    """
    for line in own_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        hierarchy, file = (root / controllers, "cpu.cfs_quota_us") if controllers else (root, "cpu.max")
        for above in (PurePosixPath(path), *PurePosixPath(path).parents):
            quota = hierarchy / str(above).lstrip("/") / file
            if quota.is_file() and not quota.read_text().startswith(("max", "-1")):
                return True
    return False


def _watch(processor: int) -> None:
    from emulation._awake import spin

    # Not every kernel schedules sessions against each other.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.sched_setaffinity(0, {processor})
    spin()


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
