"""The processes of one run: a server and a device each, started in their hosts, followed to the end."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from client.counters import read_counters
from client.device import make_slots
from emulation import host_process
from emulation.backend import Direction, LinkCounters
from emulation.launcher import Launcher
from emulation.topology import Network
from experiments import computing, model, remote
from experiments.config import Experiment
from experiments.live import EventTail, Progress
from experiments.remote import Forwarder
from proto.events import EventLog
from proto.exchange import TRAINER

_POLL_S = 0.05
_SERVER_START_S = 60.0
_CONNECT_S = 10.0
_KEEPALIVE_S = 60.0
_CLIENT = "client.__main__:main"


class RunError(RuntimeError):
    """The run could not take place; `wrong_input` tells whether the configuration is to blame."""

    def __init__(self, message: str, *, wrong_input: bool = False) -> None:
        super().__init__(message)
        self.wrong_input = wrong_input


class Fleet:
    """Server and devices of one run in a network that is up, the model loaded in the launcher.

    `link_rows` grows by a row a round, link and direction; everything else is in the event logs.
    """

    def __init__(
        self,
        experiment: Experiment,
        run_dir: Path,
        *,
        network: Network,
        launcher: Launcher,
        initial: Path,
        events: EventLog,
        progress: Progress,
        before_devices: Callable[[], None] = lambda: None,
    ) -> None:
        self._before_devices = before_devices
        self._experiment = experiment
        self._dir = run_dir
        self._network = network
        self._launcher = launcher
        self._initial = initial
        self._events = events
        self._progress = progress
        self._devices = experiment.network.emulated_devices
        self._remote = remote.commands(experiment)
        self._tail = EventTail(run_dir / "events", experiment.dilation)
        self._slots = run_dir / "slots"
        self._collected = run_dir / "collected"
        # Every client, with its compute profile: the devices, and of central training the server's trainer.
        self._seconds_per_step = {name: experiment.seconds_per_step(device) for name, device in self._devices}
        if experiment.training.scheme == "central":
            self._seconds_per_step[TRAINER] = computing.server_seconds_per_step(experiment)
        self._exited: dict[str, int] = {}
        self.link_rows: list[dict[str, Any]] = []

    @property
    def _slower(self) -> float:
        """By how much connections are given more time: links in fast motion are no quicker to connect by."""
        return max(1.0, self._experiment.dilation)

    def run(self) -> None:
        """Start everything, and return when the server has ended. Raises RunError, LauncherError."""
        make_slots(self._slots, len(os.sched_getaffinity(0)))
        with self._start_server() as server:
            try:
                self._await_server(server)
                with self._way_in() as forwarder:
                    self._progress.stage(f"starting {len(self._devices)} devices")
                    self._before_devices()
                    self._fork_devices()
                    self._watch(server, forwarder)
            finally:
                if server.poll() is None:
                    server.kill()

    @property
    def _address(self) -> str:
        return f"{self._network.ip('server')}:{self._experiment.federation.port}"

    def _way_in(self) -> AbstractContextManager[Forwarder | None]:
        """For remote devices, if there are any; who starts them is told how."""
        for name, command in self._remote.items():
            self._progress.tell(f"{name} is remote; start it with: {command}")
            self._events.write("remote_device", client=name, command=command)
        if not self._remote:
            return nullcontext()
        return Forwarder(self._address, self._network.pid("server"), self._dir / "logs" / "forwarder.log")

    def _fork_devices(self) -> None:
        federation, slower = self._experiment.federation, self._slower
        for name, seconds in self._seconds_per_step.items():
            arguments = ["--server", self._address, "--id", name, "--slots", str(self._slots)]
            arguments += ["--events", str(self._dir / "events" / f"{name}.jsonl")]
            arguments += ["--reconnect", str(federation.reconnect_timeout * slower)]
            arguments += ["--connect", str(_CONNECT_S * slower), "--keepalive", str(_KEEPALIVE_S * slower)]
            if seconds is not None:
                arguments += ["--seconds-per-step", str(seconds * self._experiment.dilation)]
            if name == TRAINER:
                arguments += ["--adapters", str(self._dir / "adapters"), "--collected", str(self._collected)]
            elif self._experiment.training.scheme == "local":
                arguments += ["--adapters", str(self._dir / "adapters" / name)]
            pid = self._launcher.fork(
                name,
                _CLIENT,
                [arguments],
                namespace_of=self._pid_of_host(name),
                log=self._dir / "logs" / f"{name}.log",
            )
            self._events.write("client_forked", client=name, pid=pid)

    def _pid_of_host(self, name: str) -> int:
        """Whose network a client lives in: the server's trainer in the server's."""
        return self._network.pid("server" if name == TRAINER else name)

    def _start_server(self) -> subprocess.Popen[bytes]:
        experiment, federation = self._experiment, self._experiment.federation
        options = {
            "listen": self._address,
            "devices": ",".join(name for name, _ in experiment.expanded_devices()),
            "initial": self._initial,
            "checkpoints": self._dir / "adapters",
            "task": json.dumps(model.task(experiment)),
            "run-id": self._dir.name,
            "rounds": experiment.rounds,
            "cohort": federation.cohort,
            "selection": federation.selection,
            "uplink-codec": experiment.uplink.codec,
            "error-feedback": experiment.uplink.error_feedback,
            "downlink-codec": experiment.downlink.codec,
            "method": experiment.aggregation.method,
            "mean": experiment.aggregation.mean,
            "optimizer": experiment.aggregation.optimizer,
            "momentum": experiment.aggregation.momentum,
            "second-momentum": experiment.aggregation.second_momentum,
            "adaptivity": experiment.aggregation.adaptivity,
            "seed": experiment.seed,
            "deadline": federation.round_deadline * experiment.dilation,
            "close-after": federation.close_after,
            "close-grace": federation.close_grace * experiment.dilation,
            "join-timeout": federation.join_timeout,
            "reconnect-grace": federation.reconnect_grace * experiment.dilation,
            "keepalive": _KEEPALIVE_S * self._slower,
            "events": self._dir / "events" / "server.jsonl",
        }
        if federation.availability is not None:
            kept = self._dir / "availability.csv"
            shutil.copyfile(federation.availability, kept)
            options |= {"availability": kept, "availability-scale": experiment.dilation}
            if federation.availability_period is not None:
                options["availability-period"] = federation.availability_period
        if experiment.aggregation.learning_rate is not None:
            options["learning-rate"] = experiment.aggregation.learning_rate
        if experiment.aggregation.merge_rank is not None:
            options["merge-rank"] = experiment.aggregation.merge_rank
        if experiment.adapter.kind == "lora":
            options["ranks"] = ",".join(map(str, experiment.ranks()))
        if experiment.downlink.delta:
            options["full-codec"] = experiment.downlink.full_codec
        if federation.late == "next_round":
            options["staleness-exponent"] = federation.staleness_exponent
        if (scheme := experiment.training.scheme) != "federated":
            options["scheme"] = scheme
        if scheme == "central":
            options |= {"collected": self._collected, "data-limit": experiment.central.data_limit}
        command = [sys.executable, "-m", "server"]
        if scheme == "central" and not experiment.central.deliver:
            command.append("--no-delivery")
        if not experiment.aggregation.discordance:
            command.append("--no-discordance")
        for key, value in options.items():
            command += [f"--{key}", str(value)]
        self._events.write("server_command", command=shlex.join(command))
        log = self._dir / "logs" / "server.log"
        return host_process.start(command, pid=self._network.pid("server"), log=log)

    def _await_server(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _SERVER_START_S
        while time.monotonic() < deadline:
            events = self._tail.read()
            self._progress.show(events)
            if any(event["event"] == "server_ready" for event in events):
                return
            if (status := server.poll()) is not None:
                raise RunError(self._last_words("server"), wrong_input=status == 2)
            time.sleep(_POLL_S)
        raise RunError(f"the server was not ready within {_SERVER_START_S:g} s")

    def _watch(self, server: subprocess.Popen[bytes], forwarder: Forwarder | None) -> None:
        """Follow the run until the server ends; a device that dies is recorded when it does."""
        counters: Mapping[Direction, LinkCounters] = self._network.counters()
        in_rounds = someone_asked = False
        while True:
            ended = server.poll() is not None
            events = self._tail.read()
            self._progress.show(events)
            for event in events:
                in_rounds = in_rounds or event["event"] == "round_start"
                someone_asked = someone_asked or bool(event.get("cohort"))
                if event["event"] == "round_end":
                    counters = self._record_links(event["round"], counters)
                    self._record_drained(event["round"])
            self._record_exits(during_rounds=in_rounds and not ended)
            failed = {name: status for name, status in self._exited.items() if status != 0}
            if failed and not in_rounds:
                name, status = next(iter(failed.items()))
                raise RunError(f"{name}: {self._last_words(name)}", wrong_input=status == 2)
            if ended:
                break
            if forwarder is not None and forwarder.status is not None:
                raise RunError(f"remote devices are cut off: {self._last_words('forwarder')}")
            time.sleep(_POLL_S)
        if server.returncode not in (0, 1) or not in_rounds:
            raise RunError(self._last_words("server"), wrong_input=server.returncode == 2)
        if not someone_asked:
            raise RunError(
                "federation.availability: no device was available in any round: is the trace in seconds, and "
                "federation.round_deadline as long as its gaps?",
                wrong_input=True,
            )
        deadline = time.monotonic() + 10
        while len(self._exited) < len(self._seconds_per_step) and time.monotonic() < deadline:
            self._record_exits(during_rounds=False)
            time.sleep(_POLL_S)

    def _record_exits(self, *, during_rounds: bool) -> None:
        for name, status in self._launcher.exits().items():
            if name not in self._exited:
                self._exited[name] = status
                counted = asdict(read_counters(Path(f"/proc/{self._pid_of_host(name)}/net")))
                self._events.write(
                    "client_exit", client=name, status=status, during_rounds=during_rounds, **counted
                )

    def _record_drained(self, number: int) -> None:
        """What the interfaces of devices that are gone had carried by the end of a round.

        A kernel goes on sending what a process had handed over when it died.
        """
        for name in self._exited:
            counted = asdict(read_counters(Path(f"/proc/{self._pid_of_host(name)}/net")))
            self._events.write("client_drained", client=name, round=number, **counted)

    def _record_links(
        self, number: int, before: Mapping[Direction, LinkCounters]
    ) -> Mapping[Direction, LinkCounters]:
        """A row of links.csv for each direction: what it carried since the last round's end."""
        now = self._network.counters()
        for (device, direction), counted in now.items():
            row: dict[str, Any] = {"round": number, "link": device, "direction": direction}
            earlier = asdict(before[device, direction])
            for key, value in asdict(counted).items():
                # Lateness is a distribution over the whole run, everything else a count.
                row[key] = value if key.endswith("_s") else value - earlier[key]
            self.link_rows.append(row)
        return now

    def _last_words(self, process: str) -> str:
        """The last line a process logged."""
        lines = (self._dir / "logs" / f"{process}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"{process} ended without a word"
