"""What several tests need: the command line as a user calls it, and a look at what it leaves behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from emulation.hypervisor import wait_for_calm

# A busy machine is no defect of a strategy or of the code under test.
settings.register_profile("fedcell", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fedcell")

REPOSITORY = Path(__file__).parent.parent
CONFIGS = REPOSITORY / "experiments" / "configs"

_HEAVY = ("tests/experiments/test_run", "tests/experiments/test_faults", "tests/experiments/test_training")


_MEASURING = (
    *_HEAVY,
    "tests/emulation/test_background",
    "tests/emulation/test_calibration",
    "tests/emulation/test_capture",
    "tests/emulation/test_channel_network",
    "tests/emulation/test_netem_live",
    "tests/emulation/test_relay_live",
    "tests/emulation/test_sandbox",
    "tests/emulation/test_topology",
    "tests/experiments/test_bench",
)
"""Tests that measure real links or send real signals at a moment of their own choosing.

A machine that stalls just then fails them without a defect, so they get three more tries, each when the
machine is calm or a minute later; a defect fails all four. Where a wrong link is to be caught, the same holds
the other way round.
"""


@pytest.hookimpl(tryfirst=True)  # Before -m chooses by markers.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast ones first, whole runs last, in a stable order. `alone`: what needs the machine for itself."""
    items.sort(key=lambda item: _is_of(item, _HEAVY))
    for item in items:
        if _is_of(item, ("tests/emulation", *_MEASURING)):
            item.add_marker(pytest.mark.alone)
        if _is_of(item, _MEASURING):
            item.add_marker(pytest.mark.flaky(reruns=3))


@pytest.fixture(autouse=True)
def calm_before_a_repeat(request: pytest.FixtureRequest) -> None:
    """What spoilt a test before would spoil it again."""
    if getattr(request.node, "execution_count", 1) > 1:
        wait_for_calm(60)


def _is_of(item: pytest.Item, files: tuple[str, ...]) -> bool:
    return str(item.path.relative_to(REPOSITORY)).startswith(files)


def fedcell(*arguments: str | Path, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
    """Run `fedcell ARGUMENT ...` to its end."""
    command = [sys.executable, "-m", "experiments.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, cwd=REPOSITORY)


def fedcell_json(*arguments: str | Path, status: int | None = 0) -> dict[str, Any]:
    """Run it with --json and return the document; standard output must hold nothing else.

    Status None stands for 0 or 1.
    """
    done = fedcell(*arguments, "--json")
    assert done.returncode in ((0, 1) if status is None else (status,)), (
        done.stderr[-3000:] + done.stdout[-2000:]
    )
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def valid_run(*arguments: str | Path) -> dict[str, Any]:
    """`fedcell run --json`, again where a busy machine made the relay late: fedcell said so itself.

    The last of four tries is taken as it is if that is all that was wrong with it: a machine whose
    hypervisor takes its processors away for seconds is no defect of what is tested.
    """
    for attempt in range(4):
        if attempt:
            wait_for_calm(60)
        done = fedcell("run", *arguments, "--json")
        document: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        reasons = document.get("invalid_reasons", [])
        noise = done.returncode == 1 and bool(reasons) and all(NOISE.search(reason) for reason in reasons)
        if not noise:
            break
    assert done.returncode == 0 or noise, done.stderr[-3000:] + done.stdout[-2000:]
    return document


NOISE = re.compile(r"the relay was late|this machine is too slow|^calibration: ")


def traces() -> set[str]:
    """Names of interfaces here, and command lines of anything of ours that runs."""
    found = {f"interface {entry.name}" for entry in Path("/sys/class/net").iterdir()}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(mark in line for mark in ("mininet:", "emulation.", "experiments.cli", "-m server")):
                found.add(f"process {entry.name} {line}")
    return found
