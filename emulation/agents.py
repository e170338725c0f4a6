"""Processes of emulation.probes in hosts' namespaces, and the questions to them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulation import expected
from emulation.link import LinkError, LinkSpec

Frames = list[tuple[int, int, int]]
"""(sequence number, sent, received) each, in order of arrival; nanoseconds of CLOCK_REALTIME."""


class Agents:
    """Starts agents: forks of one process of emulation.probes, for an interpreter of its own each takes long.

    Within `with`; all of them end with it.
    """

    def __enter__(self) -> Agents:
        self._one_at_a_time = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", "emulation.probes", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()  # The kernel kills its forks with it.
        self._process.wait()
        self._socket.close()

    def start(self, host: str, pid: int, ip: str) -> Agent:
        """An agent in the network of process `pid`, where `host` has the address `ip`. From any thread."""
        requests, to_agent = os.pipe()
        from_agent, answers = os.pipe()
        try:
            with self._one_at_a_time:
                socket.send_fds(self._socket, [str(pid).encode()], [requests, answers])
                if not self._socket.recv(1):
                    raise LinkError("calibration: the process that starts probes died")
        finally:
            os.close(requests)
            os.close(answers)
        return Agent(host, ip, to_agent, from_agent)


class Agent:
    """A process that measures: where it runs, and the pipes to ask it."""

    def __init__(self, host: str, ip: str, requests: int, answers: int) -> None:
        self.host, self.ip = host, ip
        self._requests, self._answers = os.fdopen(requests, "wb", 0), os.fdopen(answers, "rb")

    def begin(self, job: str, **request: Any) -> None:
        """Ask, and do not wait for the answer."""
        self._write(json.dumps({"job": job, **request}).encode())

    def end(self) -> dict[str, Any]:
        """The answer to what was begun. Raises LinkError if the probe failed."""
        line = self._answers.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the probe died"}
        if "error" in answer:
            raise LinkError(f"calibration on {self.host}: {answer['error']}")
        return answer

    def ask(self, job: str, **request: Any) -> dict[str, Any]:
        """Ask and wait for the answer. Raises LinkError if the probe failed."""
        self.begin(job, **request)
        return self.end()

    def hurry(self) -> None:
        """Tell a running `collect` or `inspect` that no more is sent."""
        self._write(b"")

    def close(self) -> None:
        """It ends when its standard input does, or its standard output if it is busy."""
        self._requests.close()
        self._answers.close()

    def _write(self, line: bytes) -> None:
        try:
            self._requests.write(line + b"\n")
        except BrokenPipeError:
            raise LinkError(f"calibration on {self.host}: the probe died") from None


@dataclass(frozen=True)
class Arrivals:
    """What one transfer of frames came to; `corrupted` only where damaged frames were looked for."""

    sent: dict[str, Any]
    frames: Frames
    overruns: int
    corrupted: int = 0

    @property
    def first_ns(self) -> list[int]:
        """When each frame was received, copies aside."""
        return list({sequence: received for sequence, _, received in reversed(self.frames)}.values())

    @property
    def sequences(self) -> list[int]:
        return [sequence for sequence, _, _ in self.frames]

    @property
    def delays_s(self) -> list[float]:
        """One-way delays, copies aside."""
        first = {sequence: (received - sent) * 1e-9 for sequence, sent, received in reversed(self.frames)}
        return list(first.values())


@dataclass(frozen=True)
class Way:
    """One direction of a link as it should be, with an agent at each end."""

    name: str
    spec: LinkSpec
    sender: Agent
    receiver: Agent

    @property
    def quiet_s(self) -> float:
        """A silence that long after the last frame was sent means that nothing more is under way."""
        spec = self.spec
        still_s = 3 * spec.outages.mean_down_s if spec.outages else 0.0
        if spec.trace is not None:
            still_s = expected.longest_still_s(spec.trace)
        return 0.3 + spec.delay_s + 8 * spec.jitter_s + 8 * spec.frame_time_s() + min(5.0, still_s)

    def carry(self, job: str, *, damaged: bool = False, **request: Any) -> Arrivals:
        """Send by `job` to the other end; look for `damaged` frames, too, if they are small ones."""
        port = self.receiver.ask("tap" if damaged else "listen")["port"]
        if damaged:
            ends = {"source": self.sender.ip, "target": self.receiver.ip}
            self.receiver.begin("inspect", quiet_s=self.quiet_s, **ends)
        else:
            self.receiver.begin("collect", quiet_s=self.quiet_s)
        sent = self.sender.ask(job, host=self.receiver.ip, port=port, **request)
        self.receiver.hurry()
        received = self.receiver.end()
        frames = [tuple(frame) for frame in received["frames"]]
        return Arrivals(sent, frames, received["overruns"], received.get("corrupted", 0))
