"""A link in Python between two namespaces, which can be broken in every way that calibration should notice.

It shares nothing with the backends but the TAP devices, keeps to a few megabits a second, and is late by a
millisecond now and then. To be made inside a sandbox.
"""

from __future__ import annotations

import copy
import heapq
import math
import os
import random
import select
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from emulation.link import AccessLink, LinkSpec
from emulation.relay import open_tap

Harm = Callable[[random.Random, bytes], list[tuple[float, bytes]]]
"""What the air makes of a frame: (extra delay in seconds, frame) for each that arrives."""


def unharmed(_: random.Random, frame: bytes) -> list[tuple[float, bytes]]:
    return [(0.0, frame)]


@dataclass
class Lossy:
    """Gilbert's chain; at burst 1 independent losses."""

    share: float
    burst: float = 1.0
    bad: bool = False

    def __call__(self, rng: random.Random, frame: bytes) -> list[tuple[float, bytes]]:
        goes_bad = self.share / (1 - self.share) / self.burst
        stays_bad = 1 - 1 / self.burst
        if self.burst == 1:
            goes_bad = stays_bad = self.share
        self.bad = rng.random() < (stays_bad if self.bad else goes_bad)
        return [] if self.bad else [(0.0, frame)]


def doubling(share: float) -> Harm:
    return lambda rng, frame: [(0.0, frame)] * (1 + (rng.random() < share))


def flipping(share: float) -> Harm:
    """One bit past the Ethernet header."""

    def harm(rng: random.Random, frame: bytes) -> list[tuple[float, bytes]]:
        if rng.random() >= share:
            return [(0.0, frame)]
        bit = rng.randrange(8 * 14, 8 * len(frame))
        damaged = bytearray(frame)
        damaged[bit // 8] ^= 1 << bit % 8
        return [(0.0, bytes(damaged))]

    return harm


def overtaking(share: float, by_s: float) -> Harm:
    """Some frames are held back, and others pass them."""
    return lambda rng, frame: [(by_s if rng.random() < share else 0.0, frame)]


class Service:
    """When the link has sent a frame that comes at `now`: at its rate, or by its trace, while it is up."""

    def __init__(self, spec: LinkSpec, rng: random.Random) -> None:
        self._spec, self._rng = spec, rng
        self._start = self.busy = time.monotonic()
        self._up_until = self._start + self._draw("mean_up_s")
        self._taken = -1  # The trace's last delivery that was used.

    def sent(self, now: float, length: int) -> float:
        if self._spec.trace is not None:
            self.busy = self._next_delivery(now)
            return self.busy
        self.busy = max(now, self.busy)
        left_s = self._spec.frame_time_s(length)
        while self.busy + left_s > self._up_until:
            left_s -= max(0.0, self._up_until - self.busy)
            self.busy = max(self.busy, self._up_until + self._draw("mean_down_s"))
            self._up_until = self.busy + self._draw("mean_up_s")
        self.busy += left_s
        return self.busy

    def _draw(self, mean: str) -> float:
        outages = self._spec.outages
        return math.inf if outages is None else self._rng.expovariate(1 / getattr(outages, mean))

    def _next_delivery(self, now: float) -> float:
        assert self._spec.trace is not None
        instants = self._spec.trace.deliveries_ms
        period_s = instants[-1] * 1e-3
        earliest = int((now - self._start) / period_s) * len(instants)
        self._taken = max(self._taken + 1, earliest)
        while (at := self._delivery(self._taken, instants)) < now:
            self._taken += 1
        return at

    def _delivery(self, number: int, instants: tuple[int, ...]) -> float:
        periods, which = divmod(number, len(instants))
        return self._start + (periods * instants[-1] + instants[which]) * 1e-3


class PythonLink:
    """One link that claims to be `claimed` and, in either direction, is `true` (all of it but what `harm` is
    to do: jitter, loss, copies, damage); a Measurable for emulation.calibration."""

    def __init__(self, claimed: LinkSpec, true: LinkSpec | None = None, harm: Harm = unharmed) -> None:
        self.links = [AccessLink("dev0", claimed, claimed)]
        self._true, self._harm = true or claimed, harm
        self._hosts: dict[str, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def ends(self, link: AccessLink) -> tuple[str, str]:
        return link.device, "server"

    def pid(self, host: str) -> int:
        return self._hosts[host].pid

    def ip(self, host: str) -> str:
        return {"dev0": "10.0.0.1", "server": "10.0.0.2"}[host]

    def __enter__(self) -> PythonLink:
        taps = [self._host(host) for host in ("dev0", "server")]
        for host, other in (("dev0", "server"), ("server", "dev0")):
            mac = self._inside(other, "cat", "/sys/class/net/tap0/address").strip()
            self._inside(host, "ip", "neigh", "replace", self.ip(other), "lladdr", mac, "dev", "tap0")
        for number, (taken, given) in enumerate((taps, taps[::-1])):
            rng = random.Random(number)
            self._threads.append(threading.Thread(target=self._carry, args=(taken, given, rng)))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for process in self._hosts.values():
            process.kill()
            process.wait()

    def _host(self, host: str) -> int:
        """A namespace with a TAP in it; the TAP's descriptor."""
        command = ["unshare", "--net", "--mount", "sh", "-c", "mount -t sysfs s /sys; echo; exec sleep 600"]
        self._hosts[host] = subprocess.Popen(command, stdout=subprocess.PIPE)
        stdout = self._hosts[host].stdout
        assert stdout is not None
        stdout.readline()
        tap = open_tap("tap0")
        subprocess.run(["ip", "link", "set", "tap0", "netns", str(self.pid(host))], check=True)
        self._inside(host, "sysctl", "-q", "-w", "net.ipv6.conf.all.disable_ipv6=1")
        self._inside(host, "ip", "addr", "add", f"{self.ip(host)}/24", "dev", "tap0")
        self._inside(host, "ip", "link", "set", "tap0", "up")
        return tap

    def _inside(self, host: str, *argv: str) -> str:
        command = ["mnexec", "-a", str(self.pid(host)), *argv]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def _carry(self, taken: int, given: int, rng: random.Random) -> None:
        under_way: list[tuple[float, int, bytes]] = []
        spec, number = self._true, 0
        service = Service(spec, rng)
        harm = copy.deepcopy(self._harm)  # Each direction has a state of its own.
        while not self._stop.is_set():
            wait_s = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            ready, _, _ = select.select([taken], [], [], min(wait_s, 0.1))
            if ready:
                frame, now = os.read(taken, 4096), time.monotonic()
                if (service.busy - now) * spec.rate_bps / 8 <= spec.queue_bytes:
                    out = service.sent(now, len(frame)) + spec.delay_s
                    for extra_s, arrived in harm(rng, frame):
                        number += 1
                        heapq.heappush(under_way, (out + extra_s, number, arrived))
            while under_way and under_way[0][0] <= time.monotonic():
                os.write(given, heapq.heappop(under_way)[2])
