"""What the processes of a run keep in memory while it lasts, by the kernel's account of each.

Private is what a process shares with no other (smaps_rollup in proc_pid_smaps(5): Private_Clean +
Private_Dirty), and a device's is looked at while it has one of the cores that training is gated to. Pss gives
every shared page's share to each process, so that its sum over all processes is what they hold together; the
kernel's own memory (sockets, page tables) is not in it.

A look takes some milliseconds, in which its process cannot map memory: at a low priority it would take
longer.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

_LOOK_S = 0.4
_SUM_EVERY_S = 30.0
_KIB = 1024
_MB = 1e6


class MemoryWatch:
    """Looks at the processes of the run in `run_dir`, from `with` to the block's end.

    Must be in the same PID namespace, and the run in progress the only one there.
    """

    def __init__(self, run_dir: Path) -> None:
        self.private_mb: dict[str, float] = {}
        """Each device's most, of all times it was seen training."""
        self.pss_mb = 0.0
        """The most that all processes of this PID namespace held together."""
        self.looks: dict[str, int] = defaultdict(int)
        self._run_dir = run_dir
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        names: dict[int, str] = {}
        due = 0.0
        while not self._over.wait(_LOOK_S):
            training = slot_holders(self._run_dir / "slots")
            if not training <= names.keys():
                names = forked(self._run_dir)
            for pid in training & names.keys():
                if (private := private_mb(pid)) is not None:
                    name = names[pid]
                    self.looks[name] += 1
                    self.private_mb[name] = max(private, self.private_mb.get(name, 0.0))
            if training and time.monotonic() >= due:
                self.pss_mb = max(self.pss_mb, total_pss_mb())
                due = time.monotonic() + _SUM_EVERY_S


def forked(run_dir: Path) -> dict[int, str]:
    """PID -> device, of all that the run has forked."""
    lines = (run_dir / "events" / "runner.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return {event["pid"]: event["client"] for event in events if event["event"] == "client_forked"}


def slot_holders(slots: Path, locks: Path = Path("/proc/locks")) -> set[int]:
    """Processes that hold one of the cores' lock files (client/device.py), by the kernel's list of locks."""
    try:
        inodes = {file.stat().st_ino for file in slots.glob("core-*")}
    except FileNotFoundError:  # The run has ended just now.
        return set()
    rows = [line.split() for line in locks.read_text().splitlines()]
    held = [row for row in rows if row[1] == "FLOCK"]
    return {int(row[4]) for row in held if int(row[5].rpartition(":")[2]) in inodes}


def private_mb(pid: int) -> float | None:
    """What process `pid` shares with nobody; None if it has ended."""
    return _sum_mb(pid, ("Private_Clean", "Private_Dirty"))


def total_pss_mb() -> float:
    """What all processes of this PID namespace hold together."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sum(_sum_mb(pid, ("Pss",)) or 0.0 for pid in pids)


def _sum_mb(pid: int, keys: Iterable[str]) -> float | None:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    kept = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
    return sum(int(kept[key].split()[0]) for key in keys) * _KIB / _MB if kept else None
