"""One experiment, end to end, inside the sandbox: network, calibration, fleet, tables, verdict."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from emulation.calibration import Check, calibrate
from emulation.launcher import Launcher
from experiments import (
    analytic_run,
    channel_run,
    computing,
    energy,
    model,
    privacy,
    record,
    record_central,
    timeline,
)
from experiments.beside import Beside, describe_network
from experiments.build import build_network
from experiments.config import Experiment
from experiments.extrapolation.rounds import extrapolate
from experiments.figures import draw_run
from experiments.fleet import Fleet, RunError
from experiments.live import Progress
from experiments.timeline import Event, Round
from proto.events import EventLog
from proto.exchange import TRAINER

PACKAGES = ("torch", "diffusers", "peft", "transformers", "grpcio", "protobuf", "mininet", "numpy", "pandas")


@dataclass
class Result:
    """What a run comes to."""

    run_dir: Path
    invalid_reasons: list[str]
    warnings: list[str]
    rounds: pd.DataFrame
    clients: pd.DataFrame
    checks: list[Check] = field(default_factory=list)
    privacy: dict[str, Any] | None = None
    """What differential privacy comes to, as in the manifest."""

    @property
    def valid(self) -> bool:
        return not self.invalid_reasons

    def to_json(self) -> dict[str, Any]:
        """The `run` document of the command line."""
        keys = ["round", "latency_s", "bound_s", "analytic_s", "payload_up_bytes", "payload_down_bytes"]
        keys += ["message_up_bytes", "message_down_bytes", "wire_up_bytes", "wire_down_bytes"]
        keys += ["cohort", "clients_finished", "extrapolated", *privacy.COLUMNS]
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
        except OSError as error:
            why = f"output: no run can be kept in {output}: {error.strerror}"
            raise RunError(why, wrong_input=True) from error
        for folder in ("events", "adapters", "figures", "logs"):
            (run_dir / folder).mkdir()
        pointer = output / f".latest-{os.getpid()}-{run_dir.name}"
        pointer.symlink_to(run_dir.name)
        pointer.replace(output / "latest")
        return run_dir
    raise RunError(f"{output} is full of runs named {name}-{stamp}")


class Run:
    """One run: `Run(experiment).execute()`."""

    def __init__(self, experiment: Experiment, *, command: str | None = None) -> None:
        """`command` is what a user typed, for the manifest."""
        self.experiment = experiment
        self.links = {link.device: link for link in experiment.links()}
        self.dir = make_run_dir(experiment.output, experiment.name)
        self.events = EventLog(self.dir / "events" / "runner.jsonl", "runner")
        self.manifest: dict[str, Any] = {
            "run": self.dir.name,
            "command": command,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "config": json.loads(experiment.model_dump_json()) | {"base": experiment.base},
            "machine": {
                "kernel": platform.release(),
                "cores": len(os.sched_getaffinity(0)),
                "python": platform.python_version(),
                "packages": {name: metadata.version(name) for name in PACKAGES},
            },
            "compute": computing.describe(experiment),
            "extrapolated": asdict(part) if (part := experiment.emulated_part) else None,
            "valid": False,
            "invalid_reasons": ["the run has not ended"],
        }
        if (division := experiment.network.division) is not None:
            self.manifest["allocation"] = division.describe()

    def execute(self) -> Result:
        """All of it. The run directory tells how far it came, whatever happens."""
        experiment = self.experiment
        names = [name for name, _ in experiment.expanded_devices()]
        if experiment.training.scheme == "central":
            names.append(TRAINER)
        self.events.write("run_start")
        self._save_manifest()
        reasons: list[str] = []
        try:
            with Progress(
                experiment.name, names, experiment.rounds, experiment.training.steps, experiment.dilation
            ) as progress:
                progress.stage("building the network, loading the model")
                # The network's building waits for small processes, the model's loading computes.
                with self._model_loading() as (launcher, loading), build_network(experiment) as network:
                    self.events.write("network_built")
                    initial = loading.result()
                    self.events.write("model_loaded")
                    self.manifest["backend"] = network.backend_name
                    self.manifest["topology"] = describe_network(experiment, self.dir)
                    beside = Beside(experiment, network, self.dir)
                    self.manifest["hosts"] = network.host_settings
                    progress.stage(f"calibrating {len(network.links)} links ({network.backend_name})")
                    checks = calibrate(network, quick=True)
                    self.manifest["calibration"] = [asdict(check) for check in checks]
                    network.watch()
                    self.events.write("calibrated")
                    self._save_manifest()
                    reasons += [f"calibration: {describe(c)}" for c in checks if c.passed is False]
                    with beside:
                        fleet = Fleet(
                            experiment,
                            self.dir,
                            network=network,
                            launcher=launcher,
                            initial=initial,
                            events=self.events,
                            progress=progress,
                            before_devices=beside.start,
                        )
                        fleet.run()
                    reasons += network.violations() + beside.violations()
                    self.manifest |= beside.manifest()
        except KeyboardInterrupt:
            self._mark(["interrupted"])
            raise
        except Exception as error:
            self._mark([f"failed: {error}"])
            raise
        finally:
            for scratch in ("slots", "collected"):
                shutil.rmtree(self.dir / scratch, ignore_errors=True)
            self.events.close()
        return self._conclude(reasons, checks, fleet.link_rows, beside.warnings())

    @contextmanager
    def _model_loading(self) -> Iterator[tuple[Launcher, Future[Path]]]:
        """A fork server that loads the model meanwhile; the future is the initial adapter's file."""
        initial = self.dir / "initial.safetensors"

        def load(launcher: Launcher) -> Path:
            model.load(self.experiment, launcher, initial)
            return initial

        log = self.dir / "logs" / "launcher.log"
        with ThreadPoolExecutor(1) as pool, Launcher(log) as launcher:
            yield launcher, pool.submit(load, launcher)

    def _conclude(
        self,
        reasons: list[str],
        checks: list[Check],
        link_rows: list[dict[str, Any]],
        warnings: list[str],
    ) -> Result:
        """Events -> tables -> verdict -> figures."""
        events = timeline.read_events(self.dir / "events", self.experiment.dilation)
        rounds, found = self._whole(timeline.build(events))
        reasons = reasons + found
        clients = record.clients_table(rounds, self.links)
        links, dilation = self.links, self.experiment.dilation
        if self.experiment.network.channel is not None:
            clients, found, links = channel_run.conclude(self.dir, dilation, rounds, clients, links)
            reasons = reasons + found
        clients = energy.with_energy(clients, self.experiment)
        table = privacy.add_columns(record.rounds_table(rounds, clients), rounds, self.experiment)
        analytic_s = pd.Series(analytic_run.latencies_s(self.experiment, rounds), dtype=float)
        table.insert(list(table.columns).index("bound_s") + 1, "analytic_s", analytic_s)
        reasons = reasons + record.contradictions(clients, links, dilation) + record_central.failures(clients)
        reasons = reasons + privacy.contradictions(rounds, self.experiment)
        self.manifest["privacy"] = private = privacy.report(table, clients, self.experiment)
        if len(rounds) < self.experiment.rounds or any(r.end is None for r in rounds):
            reasons.append(f"{len(rounds)} of {self.experiment.rounds} rounds took place")
        reasons += [
            f"round {row['round']}: no device finished"
            for row in table.to_dict("records")
            if not row["clients_finished"]
        ]
        record.write_table(table, self.dir / "rounds.csv")
        record.write_table(clients, self.dir / "clients.csv")
        record.write_table(pd.DataFrame(link_rows), self.dir / "links.csv")
        warnings = warnings + self._extrapolated() + computing.warnings(self.experiment)
        self._mark(reasons, warnings=warnings + _warnings(clients, events))
        draw_run(self.dir)
        return Result(self.dir, reasons, self.manifest["warnings"], table, clients, checks, private)

    def _whole(self, rounds: list[Round]) -> tuple[list[Round], list[str]]:
        """The rounds as they would have been with all of every transfer, and why that cannot be trusted."""
        experiment = self.experiment
        if (part := experiment.emulated_part) is None:
            return rounds, []
        devices = experiment.network.emulated_devices
        profiled = frozenset(
            name for name, device in devices if experiment.seconds_per_step(device) is not None
        )
        deadline_s = experiment.federation.round_deadline
        result = extrapolate(rounds, part, self.links, profiled=profiled, deadline_s=deadline_s)
        record.write_table(pd.DataFrame(result.rows), self.dir / "extrapolation.csv")
        return result.rounds, result.reasons

    def _extrapolated(self) -> list[str]:
        if (part := self.experiment.emulated_part) is None:
            return []
        share = part.values / part.whole_values
        return [
            f"{share:.1%} of every transfer was emulated; the rest is extrapolated, see extrapolation.csv"
        ]

    def _mark(self, reasons: list[str], warnings: list[str] | None = None) -> None:
        self.manifest |= {"valid": not reasons, "invalid_reasons": reasons, "warnings": warnings or []}
        self.manifest["ended"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._save_manifest()

    def _save_manifest(self) -> None:
        record.write_manifest(self.manifest, self.dir / "manifest.json")


def describe(check: Check) -> str:
    """One calibration check in words; SI units."""
    measured = "nothing" if check.measured is None else f"{check.measured:.6g}"
    configured = "nothing" if check.configured is None else f"{check.configured:.6g}"
    return (
        f"{check.link} {check.direction}: {check.metric} measured {measured}, configured {configured} "
        f"(gate {check.gate})"
    )


def _warnings(clients: pd.DataFrame, events: list[Event]) -> list[str]:
    """What a reader should know though the numbers stand: devices that did not finish a round."""
    warnings = [
        f"{client} is remote: its way to the server is not emulated, measured or counted, and has no bound"
        for client in clients[clients["remote"]]["client"].unique()
    ]
    warnings += [
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
