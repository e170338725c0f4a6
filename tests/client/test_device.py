"""Compute: a profile's time is held to, and training processes take turns on the cores."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.device import Compute, make_slots

ROOT = Path(__file__).parents[2]

# A process that trains for a moment and writes down when, and on which core.
WORKER = """
import os, sys, time, pathlib
from client.device import Compute
with Compute(slots=pathlib.Path(sys.argv[1])).slot():
    held = [os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}") and "core-" in os.readlink(f"/proc/self/fd/{fd}")]
    print(time.monotonic(), *held, flush=True)
    time.sleep(float(sys.argv[2]))
    print(time.monotonic(), flush=True)
"""


def worker(slots: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(slots), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_measured_compute_holds_nothing() -> None:
    assert Compute().hold_s(steps=100, elapsed_s=3.0) == 0.0


@pytest.mark.parametrize(
    ("elapsed_s", "hold_s"),
    [(0.0, 10.0), (4.0, 6.0), (10.0, 0.0), (12.5, -2.5)],  # the last is an overrun: 2.5 s too slow
)
def test_a_profile_holds_the_update_until_the_named_device_would_be_done(
    elapsed_s: float, hold_s: float
) -> None:
    """20 steps of a device that takes half a second each."""
    assert Compute(seconds_per_step=0.5).hold_s(steps=20, elapsed_s=elapsed_s) == pytest.approx(hold_s)


@pytest.mark.parametrize("cores", [1, 2])
def test_no_two_processes_are_ever_on_one_core(tmp_path: Path, cores: int) -> None:
    """Five processes, each 0.15 s: their times on a core never overlap, and all come through."""
    slots = tmp_path / "slots"
    make_slots(slots, cores)
    turns: dict[str, list[tuple[float, float]]] = {}
    for process in [worker(slots, 0.15) for _ in range(5)]:
        out, _ = process.communicate(timeout=30)
        (entered, core), (left,) = (line.split() for line in out.splitlines())
        turns.setdefault(core, []).append((float(entered), float(left)))
    assert len(turns) <= cores
    assert sum(map(len, turns.values())) == 5
    for spans in turns.values():
        spans.sort()
        assert all(left <= entered for (_, left), (entered, _) in itertools.pairwise(spans))


def test_as_many_processes_as_cores_work_at_once(tmp_path: Path) -> None:
    slots = tmp_path / "slots"
    make_slots(slots, 2)
    with Compute(slots=slots).slot():
        process = worker(slots, 0.0)
        assert process.communicate(timeout=30)[0]  # It was done while we were in.


def test_a_killed_process_frees_its_core(tmp_path: Path) -> None:
    """SIGKILL: no clean-up code runs, and the next one still gets in."""
    slots = tmp_path / "slots"
    make_slots(slots, 1)
    holder = worker(slots, 600)
    assert holder.stdout is not None
    holder.stdout.readline()  # It is in.
    waiting = worker(slots, 0.0)
    time.sleep(0.5)
    assert waiting.poll() is None  # Its turn has not come.
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert len(waiting.communicate(timeout=10)[0].splitlines()) == 2


def test_the_first_in_the_queue_may_die(tmp_path: Path) -> None:
    slots = tmp_path / "slots"
    make_slots(slots, 1)
    with Compute(slots=slots).slot():
        first, second = worker(slots, 0.0), worker(slots, 0.0)
        time.sleep(0.5)
        for killed in (first, second):
            assert killed.poll() is None
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert len(second.communicate(timeout=10)[0].splitlines()) == 2


def test_a_core_is_free_again_after_an_error_in_training(tmp_path: Path) -> None:
    slots = tmp_path / "slots"
    make_slots(slots, 1)
    compute = Compute(slots=slots)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), compute.slot():
            _ = 1 / 0


def test_without_slots_there_is_no_gate() -> None:
    with Compute().slot(), Compute().slot():
        pass
