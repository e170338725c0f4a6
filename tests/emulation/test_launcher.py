"""The fork server: one import, many processes, each in its own network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emulation.launcher import Launcher, LauncherError

# A module for the fork server to load: counts its imports, and reports what a fork sees.
_MODULE = """
import os, sys, time
loaded = []

def preload(word):
    loaded.append(word)

def report():
    print(loaded, os.path.basename(os.readlink("/proc/self/ns/net")), flush=True)
    return 5

def sleep():
    time.sleep(60)

def fail():
    raise ValueError("no luck")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "forked_for_test.py").write_text(_MODULE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return "forked_for_test"


def exit_status(launcher: Launcher, name: str, timeout_s: float = 10) -> int:
    deadline = time.monotonic() + timeout_s
    while name not in (exits := launcher.exits()):
        assert time.monotonic() < deadline, f"{name} has not ended"
        time.sleep(0.02)
    return exits[name]


def runs(pid: int) -> bool:
    """Whether the process exists and is no zombie waiting for init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_fork_has_what_was_preloaded_and_reports_its_status(tmp_path: Path, module: str) -> None:
    with Launcher(tmp_path / "launcher.log") as launcher:
        launcher.preload(f"{module}:preload", "once")
        launcher.fork("a", f"{module}:report", [], namespace_of=None, log=tmp_path / "a.log")
        assert exit_status(launcher, "a") == 5
    assert "['once']" in (tmp_path / "a.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a network namespace as root")
def test_a_fork_joins_the_network_it_is_given(tmp_path: Path, module: str) -> None:
    host = subprocess.Popen(["unshare", "--net", "sleep", "30"])
    try:
        ours = Path("/proc/self/ns/net").readlink().name
        deadline = time.monotonic() + 5
        while (theirs := Path(f"/proc/{host.pid}/ns/net").readlink().name) == ours:
            assert time.monotonic() < deadline
        with Launcher(tmp_path / "launcher.log") as launcher:
            launcher.fork("a", f"{module}:report", [], namespace_of=host.pid, log=tmp_path / "a.log")
            exit_status(launcher, "a")
        assert theirs in (tmp_path / "a.log").read_text()
    finally:
        host.kill()
        host.wait()


def test_a_killed_fork_is_seen_by_its_signal(tmp_path: Path, module: str) -> None:
    with Launcher(tmp_path / "launcher.log") as launcher:
        pid = launcher.fork("a", f"{module}:sleep", [], namespace_of=None, log=tmp_path / "a.log")
        os.kill(pid, signal.SIGKILL)
        assert exit_status(launcher, "a") == -signal.SIGKILL


def test_forks_die_with_the_fork_server(tmp_path: Path, module: str) -> None:
    with Launcher(tmp_path / "launcher.log") as launcher:
        pid = launcher.fork("a", f"{module}:sleep", [], namespace_of=None, log=tmp_path / "a.log")
    deadline = time.monotonic() + 5
    while runs(pid):
        assert time.monotonic() < deadline, "the fork has outlived its server"
        time.sleep(0.02)


def test_what_cannot_be_loaded_is_told(tmp_path: Path, module: str) -> None:
    with Launcher(tmp_path / "launcher.log") as launcher:
        with pytest.raises(LauncherError, match=f"{module}:fail: no luck"):
            launcher.preload(f"{module}:fail")
        with pytest.raises(LauncherError, match="no_such_module"):
            launcher.preload("no_such_module:f")
