"""One experiment, end to end, inside the sandbox: network, calibration, processes, rounds, tables."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from client.counters import read_counters
from client.device import make_slots
from emulation.calibration import Check, calibrate
from emulation.launcher import Launcher
from emulation.sandbox import die_with_parent
from emulation.topology import Network
from experiments import record, timeline
from experiments.config import Experiment
from experiments.figures import draw_run
from experiments.live import EventTail, Progress
from experiments.timeline import Event
from proto.events import EventLog

_POLL_S = 0.05
_CLIENT = "client.__main__:main"
_VERSIONS = ("torch", "diffusers", "peft", "transformers", "grpcio", "protobuf", "mininet", "numpy", "pandas")


class RunError(RuntimeError):
    """The run could not take place; `wrong_input` tells whether the configuration is to blame."""

    def __init__(self, message: str, *, wrong_input: bool = False) -> None:
        super().__init__(message)
        self.wrong_input = wrong_input


@dataclass
class Result:
    """What a run comes to."""

    run_dir: Path
    invalid_reasons: list[str]
    warnings: list[str]
    rounds: pd.DataFrame
    clients: pd.DataFrame
    checks: list[Check] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.invalid_reasons

    def to_json(self) -> dict[str, Any]:
        """The `run` document of the command line."""
        keys = ["round", "latency_s", "bound_s", "payload_up_bytes", "payload_down_bytes"]
        keys += ["message_up_bytes", "message_down_bytes", "wire_up_bytes", "wire_down_bytes"]
        keys += ["cohort", "clients_finished"]
        return {
            "run_dir": str(self.run_dir),
            "valid": self.valid,
            "invalid_reasons": self.invalid_reasons,
            "warnings": self.warnings,
            "rounds": record.json_rows(self.rounds[keys]),
        }


def make_run_dir(output: Path, name: str) -> Path:
    """A new `output/<name>-<time>/`; `output/latest` points to it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        run_dir = output / f"{name}-{stamp}{suffix}"
        try:
            run_dir.mkdir(parents=True)
        except FileExistsError:
            continue
        for folder in ("events", "adapters", "figures", "logs"):
            (run_dir / folder).mkdir()
        pointer = output / f".latest-{os.getpid()}-{run_dir.name}"
        pointer.symlink_to(run_dir.name)
        pointer.replace(output / "latest")
        return run_dir
    raise RunError(f"{output} is full of runs named {name}-{stamp}")


class Run:
    """One run: `Run(experiment).execute()`."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.devices = experiment.expanded_devices()
        self.links = {link.device: link for link in experiment.links()}
        self.dir = make_run_dir(experiment.output, experiment.name)
        self.events = EventLog(self.dir / "events" / "runner.jsonl", "runner")
        self.manifest: dict[str, Any] = {
            "run": self.dir.name,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "config": json.loads(experiment.model_dump_json()) | {"base": experiment.base},
            "machine": {
                "kernel": platform.release(),
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
                "packages": {name: metadata.version(name) for name in _VERSIONS},
            },
            "valid": False,
            "invalid_reasons": ["the run has not ended"],
        }
        self._link_rows: list[dict[str, Any]] = []
        self._exited: dict[str, int] = {}

    def execute(self) -> Result:
        """All of it. The run directory tells how far it came, whatever happens."""
        experiment = self.experiment
        names = [name for name, _ in self.devices]
        self._save_manifest()
        reasons: list[str] = []
        try:
            with Progress(experiment.name, names, experiment.rounds, experiment.training.steps) as progress:
                progress.stage("building the network")
                with Network(
                    list(self.links.values()),
                    backend=experiment.emulation.backend,
                    seed=experiment.seed,
                    congestion_control=experiment.network.congestion_control,
                ) as network:
                    self.manifest["backend"] = network.backend_name
                    self.manifest["hosts"] = network.host_settings
                    progress.stage(f"calibrating {len(names)} links ({network.backend_name})")
                    checks = calibrate(network, quick=True)
                    self.manifest["calibration"] = [asdict(check) for check in checks]
                    self._save_manifest()
                    reasons += [f"calibration: {describe(c)}" for c in checks if c.passed is False]
                    with Launcher(log=self.dir / "logs" / "launcher.log") as launcher:
                        self._federate(network, launcher, progress)
                    reasons += network.violations()
        except KeyboardInterrupt:
            self._mark(["interrupted"])
            raise
        except Exception as error:
            self._mark([f"failed: {error}"])
            raise
        finally:
            shutil.rmtree(self.dir / "slots", ignore_errors=True)
            self.events.close()
        return self._conclude(reasons, checks)

    def _federate(self, network: Network, launcher: Launcher, progress: Progress) -> None:
        """Start server and devices, and watch them to the end."""
        progress.stage("loading the model")
        initial = self._prepare(launcher)
        make_slots(self.dir / "slots", len(os.sched_getaffinity(0)))
        tail = EventTail(self.dir / "events")
        with self._server(network, initial) as server:
            try:
                self._await_server(server, tail, progress)
                address = f"{network.ip('server')}:{self.experiment.federation.port}"
                progress.stage(f"starting {len(self.devices)} devices")
                for name, device in self.devices:
                    arguments = ["--server", address, "--id", name, "--slots", str(self.dir / "slots")]
                    arguments += ["--events", str(self.dir / "events" / f"{name}.jsonl")]
                    if (seconds := self.experiment.seconds_per_step(device)) is not None:
                        arguments += ["--seconds-per-step", str(seconds)]
                    pid = launcher.fork(
                        name,
                        _CLIENT,
                        [arguments],
                        namespace_of=network.pid(name),
                        log=self.dir / "logs" / f"{name}.log",
                    )
                    self.events.write("client_forked", client=name, pid=pid)
                self._watch(server, launcher, network, tail, progress)
            finally:
                if server.poll() is None:
                    server.kill()

    def _prepare(self, launcher: Launcher) -> Path:
        """Load in the fork server what all devices share, and write the initial adapter."""
        experiment = self.experiment
        initial = self.dir / "initial.safetensors"
        launcher.preload("client.__main__:parser")  # imports gRPC before the first fork
        if experiment.training.trainer == "synthetic":
            launcher.preload(
                "experiments.initial:write_synthetic", str(initial), experiment.adapter.rank, experiment.seed
            )
        else:
            launcher.preload(
                "experiments.initial:write_diffusion",
                str(initial),
                experiment.base,
                experiment.adapter.rank,
                experiment.adapter.target_modules,
                experiment.seed,
            )
        return initial

    def _task(self) -> dict[str, Any]:
        """What the devices are told to train; the keys are their trainers' arguments."""
        training, seed = self.experiment.training, self.experiment.seed
        task: dict[str, Any] = {"trainer": training.trainer, "steps": training.steps, "seed": seed}
        task["rank"] = self.experiment.adapter.rank
        if training.trainer == "synthetic":
            return task | {"examples": 1}
        return task | {
            "base": self.experiment.base,
            "data": training.data,
            "partition": training.partition,
            "target_modules": self.experiment.adapter.target_modules,
            "batch_size": training.batch_size,
            "learning_rate": training.learning_rate,
        }

    def _server(self, network: Network, initial: Path) -> subprocess.Popen[bytes]:
        experiment, federation = self.experiment, self.experiment.federation
        options = {
            "listen": f"{network.ip('server')}:{federation.port}",
            "devices": ",".join(name for name, _ in self.devices),
            "initial": initial,
            "checkpoints": self.dir / "adapters",
            "task": json.dumps(self._task()),
            "run-id": self.dir.name,
            "rounds": experiment.rounds,
            "cohort": federation.cohort,
            "uplink-codec": experiment.uplink.codec,
            "downlink-codec": experiment.downlink.codec,
            "seed": experiment.seed,
            "deadline": federation.round_deadline,
            "join-timeout": federation.join_timeout,
            "reconnect-grace": federation.reconnect_grace,
            "events": self.dir / "events" / "server.jsonl",
        }
        command = ["mnexec", "-a", str(network.pid("server")), sys.executable, "-m", "server"]
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        self.events.write("server_command", command=shlex.join(command))
        with (self.dir / "logs" / "server.log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def _await_server(
        self, server: subprocess.Popen[bytes], tail: EventTail, progress: Progress, timeout_s: float = 60
    ) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            events = tail.read()
            progress.show(events)
            if any(event["event"] == "server_ready" for event in events):
                return
            if (status := server.poll()) is not None:
                raise RunError(self._last_words("server"), wrong_input=status == 2)
            time.sleep(_POLL_S)
        raise RunError(f"the server was not ready within {timeout_s:g} s")

    def _watch(
        self,
        server: subprocess.Popen[bytes],
        launcher: Launcher,
        network: Network,
        tail: EventTail,
        progress: Progress,
    ) -> None:
        """Follow the run until the server ends; a device that dies is recorded when it does."""
        counters = network.counters()
        in_rounds = False
        while True:
            ended = server.poll() is not None
            events = tail.read()
            progress.show(events)
            for event in events:
                in_rounds = in_rounds or event["event"] == "round_start"
                if event["event"] == "round_end":
                    counters = self._record_links(event["round"], counters, network)
            self._record_exits(launcher, network, during_rounds=in_rounds and not ended)
            failed = {name: status for name, status in self._exited.items() if status != 0}
            if failed and not in_rounds:
                name, status = next(iter(failed.items()))
                raise RunError(f"{name}: {self._last_words(name)}", wrong_input=status == 2)
            if ended:
                break
            time.sleep(_POLL_S)
        if server.returncode not in (0, 1) or not in_rounds:
            raise RunError(self._last_words("server"), wrong_input=server.returncode == 2)
        deadline = time.monotonic() + 10
        while len(self._exited) < len(self.devices) and time.monotonic() < deadline:
            self._record_exits(launcher, network, during_rounds=False)
            time.sleep(_POLL_S)

    def _record_exits(self, launcher: Launcher, network: Network, *, during_rounds: bool) -> None:
        for name, status in launcher.exits().items():
            if name not in self._exited:
                self._exited[name] = status
                counted = asdict(read_counters(Path(f"/proc/{network.pid(name)}/net")))
                self.events.write(
                    "client_exit", client=name, status=status, during_rounds=during_rounds, **counted
                )

    def _record_links(self, number: int, before: dict[Any, Any], network: Network) -> dict[Any, Any]:
        """A row of links.csv for each direction: what it carried since the last round's end."""
        now = network.counters()
        for (device, direction), counted in now.items():
            row: dict[str, Any] = {"round": number, "link": device, "direction": direction}
            earlier = asdict(before[device, direction])
            for key, value in asdict(counted).items():
                # Lateness is a distribution over the whole run, everything else a count.
                row[key] = value if key.endswith("_s") else value - earlier[key]
            self._link_rows.append(row)
        return now

    def _last_words(self, process: str) -> str:
        """The last line a process logged."""
        lines = (self.dir / "logs" / f"{process}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"{process} ended without a word"

    def _conclude(self, reasons: list[str], checks: list[Check]) -> Result:
        """Events -> tables -> verdict -> figures."""
        events = timeline.read_events(self.dir / "events")
        rounds = timeline.build(events)
        clients = record.clients_table(rounds, self.links)
        table = record.rounds_table(rounds, clients)
        reasons = reasons + record.contradictions(clients, self.links)
        if len(rounds) < self.experiment.rounds or any(r.end is None for r in rounds):
            reasons.append(f"{len(rounds)} of {self.experiment.rounds} rounds took place")
        reasons += [
            f"round {row['round']}: no device finished"
            for row in table.to_dict("records")
            if not row["clients_finished"]
        ]
        record.write_table(table, self.dir / "rounds.csv")
        record.write_table(clients, self.dir / "clients.csv")
        record.write_table(pd.DataFrame(self._link_rows), self.dir / "links.csv")
        self._mark(reasons, warnings=_warnings(clients, events))
        draw_run(self.dir)
        return Result(self.dir, reasons, self.manifest["warnings"], table, clients, checks)

    def _mark(self, reasons: list[str], warnings: list[str] | None = None) -> None:
        self.manifest |= {"valid": not reasons, "invalid_reasons": reasons, "warnings": warnings or []}
        self.manifest["ended"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._save_manifest()

    def _save_manifest(self) -> None:
        record.write_manifest(self.manifest, self.dir / "manifest.json")


def describe(check: Check) -> str:
    """One calibration check in words."""
    return (
        f"{check.link} {check.direction}: {check.metric} is {check.measured}, "
        f"configured {check.configured}, gate {check.gate}"
    )


def _warnings(clients: pd.DataFrame, events: list[Event]) -> list[str]:
    """What a reader should know though the numbers stand: devices that did not finish a round."""
    warnings = [
        f"round {row['round']}: {row['client']} {row['outcome']}"
        for row in clients.to_dict("records")
        if row["outcome"] != "finished"
    ]
    warnings += [
        f"{event['client']}: process ended with status {event['status']} during the rounds"
        for event in events
        if event["event"] == "client_exit" and event["during_rounds"] and event["status"] != 0
    ]
    return warnings
