"""Traffic beside what is measured: iperf3 flows between hosts, all the time or on and off by the clock.

A flow is made of bursts, each an iperf3 client at the source and a server of its own at the destination,
which is there before the burst is due. A burst begins with iperf3's own set-up, about five round trips,
and ends when its client is told to; where the set-up takes too much of the active time, the flow is not
what was asked for. Both ends' JSON is kept; rates are of payload.
"""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from emulation.link import SEGMENT_BYTES, LinkError

_FIRST_PORT, _PORTS_A_FLOW = 20_000, 8  # Below the ports that the kernel gives away (32768 on).
_LISTEN_S, _END_S = 10.0, 10.0
_LONGEST_S = 86_400  # What iperf3 takes; an always active flow is ended long before.
_POLL_S = 0.05
_BLOCK_S = 0.01
_LEAST_OFFERED = 0.95
_LEAST_SENDING = 0.75
"""Share of the active time in which there was traffic."""
_JUDGED_S = 2.0  # A shorter burst may be over before its set-up.


@dataclass(frozen=True)
class Flow:
    """Payload from `source` to `destination`: UDP at `rate_bps`, or TCP, at most at that if it is given.

    From `start_s` on, active for `active_s` and idle for `idle_s` in turn; None: without a pause.
    """

    source: str
    destination: str
    protocol: Literal["tcp", "udp"] = "tcp"
    rate_bps: float | None = None
    active_s: float | None = None
    idle_s: float | None = None
    start_s: float = 0.0

    def __str__(self) -> str:
        return f"background {self.protocol} {self.source} -> {self.destination}"


class Hosts(Protocol):
    """The part of a network that flows need."""

    def pid(self, host: str) -> int: ...
    def ip(self, host: str) -> str: ...


class Background:
    """Flows of a network, ready from `with` on, sent from `start` to the block's end.

    What iperf3 reports goes to files in `folder`. Raises LinkError if a server does not come up.
    """

    def __init__(self, network: Hosts, flows: Sequence[Flow], folder: Path) -> None:
        self._senders = [_Sender(network, flow, number, folder) for number, flow in enumerate(flows)]
        if flows:
            folder.mkdir(exist_ok=True)
            if shutil.which("iperf3") is None:
                raise LinkError(
                    "background traffic needs iperf3, which is not installed; fix: apt install iperf3"
                )

    def __enter__(self) -> Background:
        try:
            for sender in self._senders:
                sender.prepare()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Time 0 of every flow."""
        now = time.monotonic()
        for sender in self._senders:
            sender.start(now)

    def stop(self) -> None:
        """End every flow and take in its reports; again, nothing."""
        for sender in self._senders:
            sender.leave.set()
        for sender in self._senders:
            sender.stop()

    def violations(self) -> list[str]:
        """After `stop`: flows that were not what was asked for, each with its reason."""
        return [f"{sender.flow}: {reason}" for sender in self._senders for reason in sender.violations()]

    def summary(self, dilation: float = 1.0) -> list[dict[str, Any]]:
        """After `stop`: per flow what it was asked to be, and what its bursts together sent and delivered.

        In emulated time, with `dilation` real seconds to one of its own.
        """
        return [sender.summary(dilation) for sender in self._senders]


class _Burst:
    """One iperf3 client and its server."""

    def __init__(self, network: Hosts, flow: Flow, port: int, path: Path) -> None:
        self._network, self._flow, self._port = network, flow, port
        self._paths = {end: path.with_name(f"{path.name}-{end}.json") for end in ("server", "client")}
        self._server = self._run("server", flow.destination, ["-s", "-1"])
        self._client: subprocess.Popen[bytes] | None = None
        self._told = False
        self._begun_s = self._ended_s = 0.0
        self._await_listening()

    def begin(self) -> None:
        flow = self._flow
        arguments = ["-c", self._network.ip(flow.destination), "-t", str(_LONGEST_S)]
        if flow.protocol == "udp":
            arguments += ["-u"]
        if flow.rate_bps is not None:
            arguments += ["-b", f"{flow.rate_bps:.0f}"]
            if flow.protocol == "tcp":  # iperf3 would pace it by blocks of 128 kB.
                block = int(flow.rate_bps * _BLOCK_S / 8)
                arguments += ["-l", str(min(131072, max(SEGMENT_BYTES, block)))]
        self._client = self._run("client", flow.source, arguments)
        self._begun_s = self._ended_s = time.monotonic()

    @property
    def begun(self) -> bool:
        return self._client is not None

    @property
    def dead(self) -> bool:
        """Whether the client has ended by itself, which it is never told to do."""
        return self._client is not None and self._client.poll() is not None

    def end(self) -> None:
        """Tell the client to end, and do not wait for it: the news travels over the emulated network."""
        if self._client is not None and self._client.poll() is None:
            self._client.send_signal(signal.SIGINT)
            self._told, self._ended_s = True, time.monotonic()

    def collect(self) -> dict[str, Any]:
        """Wait for both ends: active_s, seconds of it with traffic, sent_bytes, received_bytes, and error
        (None: it ended when told to)."""
        # A server whose client was not told to end will hear of no end.
        deadline = time.monotonic() + (_END_S if self._told else 0.0)
        for process in (self._client, self._server):
            if process is not None:
                _await_end(process, deadline)
        client, server = (self._report(end) for end in ("client", "server"))
        sent, received = (
            report.get("end", {}).get(key, {})
            for report, key in ((client, "sum_sent"), (server, "sum_received"))
        )
        error = client.get("error", "it left no report")
        return {
            "active_s": self._ended_s - self._begun_s,
            "seconds": sent.get("seconds", 0.0),
            "sent_bytes": sent.get("bytes", 0),
            "received_bytes": received.get("bytes", 0),
            "error": None if "client has terminated" in error else error,
        }

    def _run(self, end: str, host: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        command = ["mnexec", "-a", str(self._network.pid(host)), "iperf3", "-4", "-J", "-p", str(self._port)]
        with self._paths[end].open("wb") as output:
            return subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # The terminal's Ctrl-C is for the run, which then stops us.
            )

    def _report(self, end: str) -> dict[str, Any]:
        try:
            report: dict[str, Any] = json.loads(self._paths[end].read_text())
        except (OSError, ValueError):
            return {}
        return report

    def _await_listening(self) -> None:
        """Until the port is bound in the destination's namespace (proc(5), net/tcp: state 0A is LISTEN)."""
        deadline, listening = time.monotonic() + _LISTEN_S, f":{self._port:04X} 00000000:0000 0A"
        while listening not in Path(f"/proc/{self._server.pid}/net/tcp").read_text():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._server.kill()
                raise LinkError(
                    f"{self._flow}: iperf3 does not listen: {self._report('server').get('error')}"
                )
            time.sleep(0.01)


class _Sender:
    """The bursts of one flow, in a thread."""

    def __init__(self, network: Hosts, flow: Flow, number: int, folder: Path) -> None:
        self.flow = flow
        self.leave = threading.Event()
        self._network, self._number, self._folder = network, number, folder
        self._bursts: list[_Burst] = []
        self._reports: list[dict[str, Any]] = []
        self._failure: str | None = None
        self._thread: threading.Thread | None = None

    def prepare(self) -> None:
        """The next burst's server."""
        count = len(self._bursts)
        port = _FIRST_PORT + self._number * _PORTS_A_FLOW + count % _PORTS_A_FLOW
        path = self._folder / f"{self._number}-{self.flow.source}-{self.flow.destination}-{count}"
        self._bursts.append(_Burst(self._network, self.flow, port, path))

    def start(self, zero: float) -> None:
        self._thread = threading.Thread(target=self._send, args=(zero,), name=str(self.flow), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the thread and for what its bursts report."""
        if self._thread is not None:
            self._thread.join()
        self._reports += [burst.collect() for burst in self._bursts if burst.begun]
        for burst in self._bursts:
            if not burst.begun:
                burst.collect()
        self._bursts = []

    def violations(self) -> list[str]:
        errors = [report["error"] for report in self._reports if report["error"]]
        if self._failure or errors:
            return [f"died early: {self._failure or errors[0]}"]
        if not self._reports:
            return [f"never sent: the rounds ended before its start at {self.flow.start_s:g} s"]
        together = self._together()
        if together["active_s"] < _JUDGED_S:
            return []
        if together["seconds"] < _LEAST_SENDING * together["active_s"]:
            return [
                f"sent for {together['seconds']:.1f} s of {together['active_s']:.1f} s: setting up "
                f"{len(self._reports)} bursts took the rest; make them longer"
            ]
        offered_bps = 8 * together["sent_bytes"] / together["seconds"]
        if self.flow.protocol == "udp" and offered_bps < _LEAST_OFFERED * (self.flow.rate_bps or 0):
            return [f"offered {offered_bps:.4g} of {self.flow.rate_bps:.4g} bit/s: this machine is too slow"]
        if together["received_bytes"] == 0:
            return ["nothing of it arrived"]
        return []

    def summary(self, dilation: float) -> dict[str, Any]:
        together = self._together()
        seconds = together["seconds"] / dilation
        asked = asdict(self.flow)
        for key, value in asked.items():
            if value is not None and key.endswith("_s"):
                asked[key] = value / dilation
            elif value is not None and key.endswith("_bps"):
                asked[key] = value * dilation
        return asked | {
            "bursts": len(self._reports),
            "seconds": seconds,
            "sent_bytes": together["sent_bytes"],
            "received_bytes": together["received_bytes"],
            "offered_bps": 8 * together["sent_bytes"] / seconds if seconds else None,
            "achieved_bps": 8 * together["received_bytes"] / seconds if seconds else None,
        }

    def _together(self) -> dict[str, Any]:
        keys = ("active_s", "seconds", "sent_bytes", "received_bytes")
        return {key: sum(report[key] for report in self._reports) for key in keys}

    def _send(self, zero: float) -> None:
        try:
            for number in itertools.count():
                period_s = (self.flow.active_s or 0.0) + (self.flow.idle_s or 0.0)
                due = zero + self.flow.start_s + number * period_s
                if self.leave.wait(max(0.0, due - time.monotonic())):
                    return
                burst = self._bursts[-1]
                burst.begin()
                ends = due + (self.flow.active_s or float("inf"))
                while time.monotonic() < ends and not burst.dead:
                    if self.leave.wait(min(_POLL_S, max(0.0, ends - time.monotonic()))):
                        burst.end()
                        return
                if burst.dead:
                    return
                burst.end()
                self.prepare()
        except LinkError as error:
            self._failure = str(error)


def _await_end(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Wait for a process until `deadline`, then interrupt it, and kill it if that does not help."""
    for ask in (lambda: process.send_signal(signal.SIGINT), process.kill):
        try:
            process.wait(timeout=max(0.0, deadline - time.monotonic()))
            return
        except subprocess.TimeoutExpired:
            ask()
            deadline = time.monotonic() + 1.0
    process.wait()
