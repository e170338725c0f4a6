"""Processors that stay awake: where, by whom, and for how long."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from emulation import awake
from emulation.awake import Awake, is_rationed, is_virtual

OURS = len(os.sched_getaffinity(0))


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "is_virtual", lambda cpuinfo: True)
    monkeypatch.setattr(awake, "is_rationed", lambda own, root: False)


def watches(parent: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(parent).children() if "emulation.awake" in child.cmdline()]


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_every_processor_gets_one_that_runs_only_when_nothing_else_does(virtual: None) -> None:
    kept = Awake()
    kept.start()
    try:
        mine, each = watches(os.getpid()), {(number,) for number in os.sched_getaffinity(0)}
        assert len(mine) == OURS
        assert eventually(lambda: all(os.sched_getscheduler(one.pid) == os.SCHED_IDLE for one in mine))
        assert eventually(lambda: {tuple(one.cpu_affinity()) for one in mine} == each)
    finally:
        kept.stop()
    assert watches(os.getpid()) == []
    kept.stop()


def test_they_do_not_outlive_who_started_them() -> None:
    code = (
        "import time; from emulation import awake\n"
        "awake.is_virtual = lambda cpuinfo: True\n"
        "awake.is_rationed = lambda own, root: False\n"
        "awake.Awake().start(); print('up', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
        left = watches(parent.pid)
        assert len(left) == OURS
        parent.send_signal(signal.SIGKILL)
    assert eventually(lambda: not any(one.is_running() and one.status() != "zombie" for one in left))


def test_a_machine_of_its_own_and_rationed_time_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for virtual, rationed in ((False, False), (True, True)):
        monkeypatch.setattr(awake, "is_virtual", lambda cpuinfo, virtual=virtual: virtual)
        monkeypatch.setattr(awake, "is_rationed", lambda own, root, rationed=rationed: rationed)
        kept = Awake()
        kept.start()
        assert watches(os.getpid()) == []


def test_a_virtual_machine_is_known_by_its_processor_s_flag() -> None:
    assert is_virtual("processor\t: 0\nflags\t\t: fpu vme hypervisor lahf_lm\n")
    assert not is_virtual("vendor_id\t: User Mode Linux\nflags\t\t: fpu hypervisor\n")
    assert not is_virtual("processor\t: 0\nflags\t\t: fpu vme lahf_lm\nmodel name\t: hypervisor\n")


def test_a_quota_anywhere_above_counts(tmp_path: Path) -> None:
    inner = tmp_path / "system.slice" / "job"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    assert not is_rationed("0::/system.slice/job\n", tmp_path)
    (tmp_path / "system.slice" / "cpu.max").write_text("150000 100000\n")
    assert is_rationed("0::/system.slice/job\n", tmp_path)
    assert not is_rationed("0::/\n", tmp_path)
    (tmp_path / "cpu.max").write_text("150000 100000\n")  # A container's own root.
    assert is_rationed("0::/\n", tmp_path)


def test_so_does_one_of_the_first_version(tmp_path: Path) -> None:
    job = tmp_path / "cpu,cpuacct" / "job"
    job.mkdir(parents=True)
    (job / "cpu.cfs_quota_us").write_text("-1\n")
    lines = "9:name=systemd:/job\n3:cpuset:/job\n2:cpu,cpuacct:/job\n0::/\n"
    assert not is_rationed(lines, tmp_path)
    (job / "cpu.cfs_quota_us").write_text("50000\n")
    assert is_rationed(lines, tmp_path)


def test_other_sessions_get_their_time_whatever_theirs_gets(virtual: None) -> None:
    """Sessions share processors as equals by default, and the idle class gives way within its own only."""
    autogroup = Path("/proc/self/autogroup")
    if not autogroup.exists():
        pytest.skip("this kernel does not group processes by session")
    kept = Awake()
    kept.start()
    try:
        mine = [Path(f"/proc/{one.pid}/autogroup") for one in watches(os.getpid())]
        assert mine and eventually(lambda: all(one.read_text().split()[-1] == "19" for one in mine))
        assert "nice 19" not in autogroup.read_text()  # Which is empty for who is in no group.
    finally:
        kept.stop()
