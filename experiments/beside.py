"""What a run has beside its federation: the channel that drives its links, background traffic,
captures, and its network's shape on record.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from emulation.background import Background
from emulation.capture import Capture
from emulation.topology import Network
from experiments import channel_run
from experiments.config import Experiment


class Beside:
    """From `with` to the block's end; channel and flows begin with `start`. Raises LinkError."""

    def __init__(self, experiment: Experiment, network: Network, run_dir: Path) -> None:
        section = experiment.network
        self._dilation = experiment.dilation
        devices = [name for name, _ in experiment.expanded_devices()]
        self._driven = channel_run.driven(
            section.channel,
            network,
            devices,
            run_dir,
            experiment.dilation,
            airs=section.airs,
            bands_hz=section.bands_hz,
        )
        self._violations: list[str] = []
        flows = [flow.build(experiment.dilation) for flow in section.background]
        self._background = Background(network, flows, run_dir / "background")
        there = network.interfaces()
        wanted = list(there) if section.capture == ["all"] else section.capture
        self._capture = Capture(there, wanted, run_dir / "captures", snaplen=section.snaplen)
        self._loaded = sorted({host for flow in flows for host in (flow.source, flow.destination)})
        self._stack = ExitStack()

    def __enter__(self) -> Beside:
        with ExitStack() as entered:
            entered.enter_context(self._capture)
            entered.enter_context(self._background)
            self._stack = entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Their time 0: just before the devices start, so that no round begins without them."""
        self._violations = self._stack.enter_context(self._driven)
        self._background.start()

    def manifest(self) -> dict[str, Any]:
        """After the block: what the manifest says of it."""
        captures = self._capture.summary()
        return {"background": self._background.summary(self._dilation)} | (
            {"captures": captures} if captures["interfaces"] else {}
        )

    def violations(self) -> list[str]:
        """After the block: reasons why the run is invalid."""
        return self._violations + self._background.violations()

    def warnings(self) -> list[str]:
        """After the block: what a reader should know though the numbers stand."""
        devices = [host for host in self._loaded if host != "server"]
        counted = f"wire bytes and retransmissions of {', '.join(devices)} include their background traffic"
        return self._capture.warnings() + ([counted] if devices else [])


def describe_network(experiment: Experiment, run_dir: Path) -> dict[str, Any]:
    """For the manifest: nodes, links and the ways between; a user's own file is kept in the run directory."""
    graph = experiment.network.graph
    described: dict[str, Any] = graph.describe()
    if (file := experiment.network.topology_file) is not None:
        shutil.copyfile(file, run_dir / "topology.py")
        described["file"] = "topology.py"
        described["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return described
