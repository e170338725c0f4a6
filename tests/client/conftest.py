"""Federations for the tests beside this file; none outlives its test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import INITIAL, LAYOUT, ROOT, TASK, Federation, Running, free_port

from client.synthetic import initial_adapter
from proto.adapter import AdapterLayout, save_adapter


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `python -m server` or `python -m client` with an event log; killed after the test."""
    started: list[Running] = []

    def spawn(module: str, *options: object, name: str = "") -> Running:
        base = tmp_path / (name or module)
        log, said = base.with_suffix(".jsonl"), base.with_suffix(".err")
        command = [sys.executable, "-m", module, "--events", str(log), *map(str, options)]
        with said.open("w") as stderr:
            process = subprocess.Popen(command, cwd=ROOT, stderr=stderr, text=True)
        started.append(Running(process, log, said))
        return started[-1]

    yield spawn
    for running in started:
        running.process.kill()
        running.process.wait()


@pytest.fixture
def federation(tmp_path: Path, spawn: Callable[..., Running]) -> Callable[..., Federation]:
    def federation(
        devices: str, *options: object, task: object = TASK, layout: AdapterLayout = LAYOUT
    ) -> Federation:
        port = free_port()
        initial = INITIAL if layout is LAYOUT else initial_adapter(layout, seed=0)
        save_adapter(tmp_path / "initial.safetensors", layout, initial)
        server = spawn(
            *("server", "--listen", f"127.0.0.1:{port}", "--devices", devices, "--task", json.dumps(task)),
            *("--initial", tmp_path / "initial.safetensors", "--checkpoints", tmp_path / "adapters"),
            *options,
        )
        return Federation(server, port, tmp_path / "adapters", spawn)

    return federation
