"""A sandbox leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from emulation import sandbox

SANDBOX = [sys.executable, "-m", "emulation.sandbox", "--"]

# Makes an interface, tells its PID, and sleeps until it is ended.
_BUSY = """
import subprocess, time
subprocess.run("ip link add leak0 type veth peer name leak1".split(), check=True)
print("ready", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(7)
"""


def processes_with(marker: str) -> list[str]:
    """Command lines on this machine that contain `marker`, ours aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if marker in line:
                found.append(line)
    return found


def wait_until_gone(marker: str, timeout_s: float = 5) -> list[str]:
    deadline = time.monotonic() + timeout_s
    while (left := processes_with(marker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def start_busy(marker: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*SANDBOX, sys.executable, "-c", _BUSY, marker], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_it_has_its_own_network_and_process_numbers() -> None:
    links = subprocess.run([*SANDBOX, "ip", "-br", "link"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in links.stdout.splitlines()] == ["lo"]
    pid = subprocess.run([*SANDBOX, "sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    assert pid.stdout == "1\n"


def test_the_exit_status_comes_through() -> None:
    assert subprocess.run([*SANDBOX, "sh", "-c", "exit 3"], check=False).returncode == 3


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts_the_command(signum: signal.Signals) -> None:
    process = start_busy(marker := f"sandbox-test-{signum.name}")
    process.send_signal(signum)
    output, _ = process.communicate(timeout=10)
    assert output == "interrupted\n"
    assert process.returncode == 7
    assert wait_until_gone(marker) == []


def test_sigkill_takes_everything_with_it() -> None:
    process = start_busy(marker := "sandbox-test-sigkill")
    process.kill()
    process.wait(timeout=10)
    assert wait_until_gone(marker) == []
    assert "leak0" not in subprocess.run(["ip", "link"], capture_output=True, text=True).stdout


def test_two_at_once_do_not_see_each_other() -> None:
    first, second = start_busy("sandbox-test-one"), start_busy("sandbox-test-two")
    # Both made an interface of the same name; the second would have failed in a shared network.
    for process in (first, second):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user, which only root can")
def test_an_ordinary_user_needs_no_sudo() -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    enter = [*sandbox.command(["ip", "-br", "link"])]
    enter[1:1] = ["--user", "--map-root-user"]  # What command() adds when it is not root.
    done = subprocess.run([*as_nobody, *enter], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["lo"]
