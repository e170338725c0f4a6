"""Flower on the network of `fedcell bench transport`: the same hosts, links, TCP settings and counters.

By both of its paths: `start_server`/`start_client` over gRPC, and SuperLink/SuperNode over HTTP. Their
processes run in the hosts' namespaces and write events under our names (experiments/bench/peers/marks.py).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from emulation import host_process
from emulation.calibration import calibrate
from emulation.capture import Capture
from emulation.topology import Network
from experiments.bench.peers.marks import DEVICE_PID, EVENTS
from experiments.bench.transport_rows import DEVICE, INTERFACES
from experiments.build import build_network
from experiments.config import Experiment
from experiments.live import EventTail
from experiments.run import describe

_REPOSITORY = Path(__file__).resolve().parents[2]
HOME = _REPOSITORY / ".peers"
_SCRIPTS = Path(__file__).parent / "peers"
_PORT = 8000
_READY_S, _POLL_S = 60.0, 0.05


class PeerError(RuntimeError):
    """A peer that did not do what it was asked to; one line saying what and why."""


@dataclass(frozen=True)
class Peer:
    """One way to run Flower, with its vector in so many tensors; `timeout_s` for all its rounds."""

    name: str
    tensors: int
    rounds: int = 3
    timeout_s: float = 600.0


GRPC, SUPERLINK = "Flower gRPC", "Flower SuperLink"
PEERS = (Peer(GRPC, 1), Peer(GRPC, 256), Peer(SUPERLINK, 1), Peer(SUPERLINK, 256, rounds=2))


def pinned_version() -> str:
    """Flower's version in constraints.txt, which is the one that is installed and measured."""
    found = re.search(r"^flwr==(\S+)$", (_SCRIPTS / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def check_installed() -> None:
    """Raises PeerError unless the peers' environment holds the pinned version."""
    if not list(HOME.glob(f"lib/python*/site-packages/flwr-{pinned_version()}.dist-info")):
        raise PeerError(f"Flower {pinned_version()} is not installed in {HOME}: run make peers")


def run_peer(peer: Peer, experiment: Experiment, folder: Path) -> list[str]:
    """All rounds of a peer on the experiment's network, with events and captures in `folder`.

    Returns reasons why what was measured cannot be trusted. Raises PeerError, LinkError.
    """
    for name in ("events", "logs", "server", "device"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with build_network(experiment) as network:
        checks = calibrate(network, quick=True)
        capture = Capture(network.interfaces(), INTERFACES, folder / "captures")
        with capture, _Processes(network, folder) as processes:
            start = _start_grpc if peer.name == GRPC else _start_superlink
            start(processes, peer, f"{network.ip('server')}:{_PORT}", _values(experiment))
            processes.await_rounds(peer.rounds, peer.timeout_s)
        reasons = [f"calibration: {describe(check)}" for check in checks if check.passed is False]
        return reasons + network.violations() + capture.warnings()


def _values(experiment: Experiment) -> int:
    from client.sd15 import sd15_lora_layout

    return sd15_lora_layout(experiment.adapter.rank).size


def _start_grpc(processes: _Processes, peer: Peer, address: str, values: int) -> None:
    module = "experiments.bench.peers"
    asked = [address, str(peer.rounds), str(values), str(peer.tensors)]
    processes.start("server", "server", ["python", "-m", f"{module}.legacy_server", *asked])
    processes.await_line("server", "gRPC server running")
    processes.start("client", DEVICE, ["python", "-m", f"{module}.legacy_client", address])


def _start_superlink(processes: _Processes, peer: Peer, address: str, values: int) -> None:
    host, _, port = address.partition(":")
    listen = ["--host", host, "--port", port, "--disable-runtime-dependency-installation"]
    processes.start("superlink", "server", ["flower-superlink", "--insecure", *listen])
    processes.await_line("superlink", "Uvicorn running")
    processes.start("supernode", DEVICE, ["flower-supernode", "--insecure", "--superlink", address])
    processes.await_line("supernode", "SuperNode ID")
    config = f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\naddress = "{address}"\ninsecure = true\n'
    (processes.home("server") / "config.toml").write_text(config)
    asked = f"rounds={peer.rounds} values={values} tensors={peer.tensors}"
    processes.start(
        "flwr", "server", ["flwr", "run", str(_SCRIPTS / "app"), "bench", "--run-config", asked], lasts=False
    )


class _Processes:
    """A peer's processes in the network's hosts; whatever is left of them ends with the block."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._network, self._folder = network, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._lasting: list[str] = []
        self._tail = EventTail(folder / "events", dilation=1.0)

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for process in self._running.values():
                stack.callback(process.wait)
                stack.callback(_kill_group, process.pid)

    def home(self, host: str) -> Path:
        """Where Flower keeps its files on a host."""
        return self._folder / ("server" if host == "server" else "device")

    def start(self, name: str, host: str, command: Sequence[str], *, lasts: bool = True) -> None:
        """Start a command of the peers' environment in a host; it `lasts` until the rounds are done."""
        program, *arguments = command
        self._running[name] = host_process.start(
            [str(HOME / "bin" / program), *arguments],
            pid=self._network.pid(host),
            log=self._folder / "logs" / f"{name}.log",
            env=self._environment(host),
        )
        if lasts:
            self._lasting.append(name)

    def _environment(self, host: str) -> Mapping[str, str]:
        """Offline: no telemetry, no look for updates, no proxy; our marks and counters on the path."""
        kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        return kept | {
            "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(_REPOSITORY),
            "PYTHONUNBUFFERED": "1",
            "FLWR_HOME": str(self.home(host).resolve()),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            EVENTS: str((self._folder / "events").resolve()),
            DEVICE_PID: str(self._network.pid(DEVICE)),
        }

    def await_line(self, name: str, text: str) -> None:
        """Until a process has logged `text`. Raises PeerError."""
        deadline = time.monotonic() + _READY_S
        while text not in self._log(name):
            if dead := self._dead():
                raise PeerError(dead)
            if time.monotonic() > deadline:
                raise PeerError(f"{name} did not say '{text}' within {_READY_S:g} s: {self._last(name)}")
            time.sleep(_POLL_S)

    def await_rounds(self, count: int, timeout_s: float) -> None:
        """Until so many rounds have ended. Raises PeerError where one got no update."""
        deadline, ended = time.monotonic() + timeout_s, 0
        while True:
            dead = self._dead()  # Asked first: what it wrote before it died still counts.
            for event in self._tail.read():
                if event["event"] == "round_end":
                    ended += 1
                    if event["outcomes"][DEVICE] != "finished":
                        raise PeerError(f"round {event['round']} got no update")
            if ended >= count:
                return
            if dead:
                raise PeerError(dead)
            if time.monotonic() > deadline:
                raise PeerError(f"{ended} of {count} rounds within {timeout_s:g} s")
            time.sleep(_POLL_S)

    def _dead(self) -> str:
        """How a process ended that should not have; empty if none did."""
        for name, process in self._running.items():
            status = process.poll()
            if status is not None and (status != 0 or name in self._lasting):
                return f"{name} ended with status {status}: {self._last(name)}"
        return ""

    def _log(self, name: str) -> str:
        return (self._folder / "logs" / f"{name}.log").read_text(errors="replace")

    def _last(self, name: str) -> str:
        lines = self._log(name).strip().splitlines()
        return lines[-1].strip() if lines else "without a word"


def _kill_group(pid: int) -> None:
    """Kill a process that leads its group, and the group with it."""
    with suppress(ProcessLookupError):  # All of them have ended.
        os.killpg(pid, signal.SIGKILL)
