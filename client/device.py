"""The compute of a device: what this machine really uses, or what a named device would.

2 cores cannot be 20 phones at once. `measured` compute takes turns on the cores and counts the CPU time
really used; a `profile` really trains too, then holds the update until the named device would be done.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_QUEUE = "queue"


@dataclass(frozen=True)
class Compute:
    """`seconds_per_step` None: measured. `slots`: a folder of lock files, one a core; None: no gate."""

    seconds_per_step: float | None = None
    slots: Path | None = None

    def hold_s(self, steps: int, elapsed_s: float) -> float:
        """How long to hold the update; negative when real work outlasted the profile (an overrun)."""
        if self.seconds_per_step is None:
            return 0.0
        return self.seconds_per_step * steps - elapsed_s

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a free core and keep it. A killed process's lock is freed by the kernel."""
        if self.slots is None:
            yield
            return
        handle = _take_any(self.slots)
        try:
            yield
        finally:
            os.close(handle)


def make_slots(folder: Path, count: int) -> None:
    """Create the lock files of `count` cores, and that of the queue for them."""
    folder.mkdir()
    (folder / _QUEUE).touch()
    for index in range(count):
        (folder / f"core-{index}").touch()


def _take_any(slots: Path, poll_s: float = 0.01) -> int:
    """The first in the queue looks for a free core again and again; a hundred others sleep in the kernel."""
    cores = sorted(slots.glob("core-*"))
    queue = os.open(slots / _QUEUE, os.O_RDWR)
    try:
        fcntl.flock(queue, fcntl.LOCK_EX)
        while True:
            for core in cores:
                handle = os.open(core, os.O_RDWR)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(handle)
                    continue
                return handle
            time.sleep(poll_s)
    finally:
        os.close(queue)
