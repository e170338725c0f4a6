"""Servers for the tests beside this file; none outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_device import Server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """`start("dev0,dev1", "--rounds", "2")` starts a `python -m server`; `folder` for a second one."""
    servers: list[Server] = []

    def start(devices: str, *options: str, folder: str = "run", **more: Any) -> Server:
        servers.append(Server.start(tmp_path / folder, devices, *options, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()
