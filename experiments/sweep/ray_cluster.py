"""Trials on a Ray cluster: any machines with this code that `ray start` joined to one.

A trial is a Ray task that starts the same process as here, in a sandbox of its own on its node. Nothing is
shared between nodes: the configuration goes out as text, and what comes back is the run directory without its
adapters and events. Files that the configuration names must be on the nodes, at the same paths. Ray is
optional: its core package and no more, for ray[default] brings a package that is named proto too.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments.config import ConfigError
from experiments.sweep.code_version import code_version
from experiments.sweep.executor import Job
from experiments.sweep.fit import fitting
from experiments.sweep.process import Ending, TrialProcess
from experiments.sweep.trial import Trial

_ROOT = Path(__file__).parents[2]
_POLL_S = 0.2
_KEPT = ("adapters", "events")
"""Of a run directory, what stays on its node and is deleted there: megabytes that no table needs."""


class ClusterError(RuntimeError):
    """The cluster cannot go on; the message says why."""

    wrong_input = False


@dataclass
class _Node:
    """A machine of the cluster and what runs on it."""

    id: str
    name: str
    cpus: int
    slots: int
    running: dict[Any, Job] = field(default_factory=dict)


class RayExecutor:
    """On every node as many trials at a time as do not spoil each other's timing, or `jobs` in all.

    Raises ConfigError where Ray is not installed or there is no cluster at `address`.
    """

    name = "ray"
    evaluates_earlier = False

    def __init__(self, trials: Sequence[Trial], address: str = "auto", jobs: int | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                "--executor ray: Ray is not installed; fix: pip install 'fedcell[ray]' -c constraints.txt"
            ) from error
        self._ray = ray
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--ray-address: no Ray cluster at {address}; start one with `ray start --head` ({error})"
            ) from error
        self._trials = [trial.experiment for trial in trials]
        self._nodes = self._alive()
        if not self._nodes:
            raise ConfigError(f"--ray-address: the cluster at {address} has no node with a processor")
        fits = sum(node.slots for node in self._nodes)
        if jobs is not None and jobs > fits:
            raise ConfigError(
                f"--jobs {jobs}: its nodes bear {fits} at a time; let more nodes join the cluster"
            )
        self.jobs = jobs or fits
        self._task = ray.remote(run_on_node)

    def _alive(self) -> list[_Node]:
        found = []
        for node in self._ray.nodes():
            cpus = int(node["Resources"].get("CPU", 0))
            if node["Alive"] and cpus:
                slots = fitting(self._trials, cpus).jobs
                name = (
                    f"{node['NodeManagerHostname']}/{node['NodeID'][:8]}"  # A machine may be several nodes.
                )
                found.append(_Node(node["NodeID"], name, cpus, slots))
        return found

    def describe(self) -> str:
        nodes = ", ".join(f"{node.name} ({node.cpus} processors, {node.slots})" for node in self._nodes)
        return f"{self.jobs} at a time on {len(self._nodes)} nodes: {nodes}"

    def room(self) -> bool:
        running = sum(len(node.running) for node in self._nodes)
        return running < self.jobs and any(len(node.running) < node.slots for node in self._nodes)

    def start(self, job: Job) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        node = max(self._nodes, key=lambda node: node.slots - len(node.running))
        # It claims its share of the node's processors, so that other users' tasks do not run beside it.
        task = self._task.options(
            max_retries=0,
            num_cpus=node.cpus // node.slots,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        )
        work = (job.trial.to_yaml(), str(Path.cwd()), job.evaluation, job.limit_s, code_version())
        node.running[task.remote(*work)] = job

    def ended(self) -> list[tuple[Job, Ending]]:
        found = []
        for node in self._nodes:
            if not node.running:
                continue
            done, _ = self._ray.wait(list(node.running), num_returns=len(node.running), timeout=0)
            for reference in done:
                job = node.running.pop(reference)
                found.append((job, self._ending(reference, job, node)))
        return found

    def _ending(self, reference: Any, job: Job, node: _Node) -> Ending:
        begin = time.monotonic()
        try:
            ending, packed = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            self._drop_dead()
            return Ending("failed", f"{node.name}: {lines[-1]}", "", time.monotonic() - begin, node.name)
        unpack(packed, job.folder)
        return replace(ending, node=node.name)

    def _drop_dead(self) -> None:
        """Nodes that are gone get no more trials. Raises ClusterError where none is left."""
        alive = {node.id for node in self._alive()}
        for node in self._nodes:
            if node.id not in alive:
                node.slots = 0
        if not any(node.slots for node in self._nodes):
            raise ClusterError("no node of the Ray cluster is left; the sweep can be resumed")

    def stop(self) -> None:
        for node in self._nodes:
            for reference in node.running:
                self._ray.cancel(reference, force=True)  # Its worker dies, and with it the trial.
            node.running.clear()
        self._ray.shutdown()


def run_on_node(
    config: str, cwd: str, evaluation: tuple[str, ...] | None, limit_s: float, code: str
) -> tuple[Ending, bytes]:
    """A trial from its beginning to its end, in a Ray worker; what it left, packed."""
    node = os.uname().nodename
    if code_version() != code:
        reason = f"{node} has other code ({code_version()}) than the sweep ({code}); install the same there"
        return Ending("failed", reason, "", 0.0, node), b""
    os.environ.pop("OMP_NUM_THREADS", None)  # Ray sets it; without Ray a run has none.
    with tempfile.TemporaryDirectory(prefix="fedcell-trial-") as name:
        folder, here = Path(name), Path(cwd)
        process = TrialProcess(
            config, folder, evaluation=evaluation, limit_s=limit_s, cwd=here if here.is_dir() else _ROOT
        )
        while (ending := process.poll()) is None:  # It ends at its limit.
            time.sleep(_POLL_S)
        return ending, pack(folder)


def pack(folder: Path) -> bytes:
    """A trial's folder as a zip archive, without what stays on the node."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not path.is_symlink() and not set(name.parts) & set(_KEPT):
                archive.write(path, name)
    return packed.getvalue()


def unpack(packed: bytes, folder: Path) -> None:
    """What `pack` gave, into `folder`; nothing where there is nothing."""
    if packed:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            archive.extractall(folder)  # It keeps every name inside the folder.
