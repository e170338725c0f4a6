"""Configured against measured: every link's rate, delay, loss and queue, seen from its ends.

Nothing here is shared with the backends: agents (emulation.probes) join the hosts' namespaces and
measure with plain sockets and the kernel's receive timestamps. Quick mode fits in the seconds before a
run and says of what it has no time for that it was not tested (`passed` is None).

The gates are DESIGN.md's, widened only by what a probe of that length cannot resolve, and each Check
states its own. A probe whose sender was held up, so that the link ran idle, or whose receiver overran,
is repeated: it would measure the machine.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from emulation.link import FRAME_BYTES, AccessLink, LinkError, LinkSpec
from emulation.probes import PING_BYTES, SMALL_BYTES

_Z = 2.58  # 99 % of a normal distribution lies within.
_EARLY_S, _LATE_S = 0.1e-3, 0.5e-3
_TOTAL_FRAMES_PER_S = 32_000
"""What all probes at a time may send: two busy cores carry it without disturbing one another."""
_QUICK_LOSS_S, _ATTEMPTS = 4.0, 3
_IDLE_SHARE = 0.002  # A link idle for longer than this makes a rate probe worthless: the gate is 1 %.


@dataclass(frozen=True)
class Check:
    """One comparison; `passed` is None where it was not tested, and `gate` then says why.

    `metric` is "rate" (bit/s), "rtt", "delay", "jitter", "queue" (s), "loss" (a fraction),
    "goodput" (bit/s) or "gap" (a fraction of a frame's time); `direction` "up", "down" or "both".
    """

    link: str
    direction: str
    metric: str
    configured: float | None
    measured: float | None
    gate: str
    passed: bool | None


class Measurable(Protocol):
    """What calibration needs to know of a network: emulation.topology.Network has it."""

    @property
    def links(self) -> Sequence[AccessLink]: ...
    def pid(self, host: str) -> int: ...
    def ip(self, host: str) -> str: ...


def calibrate(network: Measurable, *, quick: bool) -> list[Check]:
    """Measure every link of a network that carries nothing else; the checks, link by link.

    Quick takes about 12 s for four devices, full about a minute and more for rare losses. Raises
    LinkError if a probe itself cannot be made.
    """
    links = network.links
    if not links:
        return []
    fastest = max(max(link.up.rate_bps, link.down.rate_bps) for link in links)
    together = max(1, min(len(links), int(_TOTAL_FRAMES_PER_S / (2.2 * fastest / (8 * FRAME_BYTES)))))
    checks: dict[str, list[Check]] = {link.device: [] for link in links}
    stages = _QUICK if quick else _FULL
    with ThreadPoolExecutor(together) as pool:
        benches = list(pool.map(lambda link: _Bench(network, link, quick, together), links))
        try:
            for stage in stages:  # One kind of probe at a time: a delay is measured on links at rest.
                for bench, found in zip(benches, pool.map(stage, benches), strict=True):
                    checks[bench.link.device] += found
        finally:
            for bench in benches:
                bench.close()
    return [check for link in links for check in checks[link.device]]


class _Agent:
    """A process of emulation.probes in a host's namespaces, and the questions to it."""

    def __init__(self, network: Measurable, host: str) -> None:
        self.host, self.ip = host, network.ip(host)
        self._process = subprocess.Popen(
            ["mnexec", "-a", str(network.pid(host)), sys.executable, "-S", "-m", "emulation.probes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        )

    def begin(self, job: str, **request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, **request}).encode() + b"\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the probe died"}
        if "error" in answer:
            raise LinkError(f"calibration on {self.host}: {answer['error']}")
        return answer

    def ask(self, job: str, **request: Any) -> dict[str, Any]:
        self.begin(job, **request)
        return self.end()

    def hurry(self) -> None:
        """Tell a running `collect` that no more is sent."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@dataclass(frozen=True)
class _Way:
    """One direction of a link, with an agent at each end."""

    name: str
    spec: LinkSpec
    sender: _Agent
    receiver: _Agent

    @property
    def quiet_s(self) -> float:
        """A silence that long after the last frame was sent means that nothing more is under way."""
        return 0.3 + self.spec.delay_s + 8 * self.spec.jitter_s + 8 * self.spec.frame_time_s()

    def carry(self, job: str, **request: Any) -> tuple[dict[str, Any], list[tuple[int, int, int]], int]:
        """Send by `job` to the other end: the sender's answer, the frames received, the overruns."""
        port = self.receiver.ask("listen")["port"]
        self.receiver.begin("collect", quiet_s=self.quiet_s)
        sent = self.sender.ask(job, host=self.receiver.ip, port=port, **request)
        self.receiver.hurry()
        received = self.receiver.end()
        return sent, [tuple(frame) for frame in received["frames"]], received["overruns"]


class _Bench:
    """One access link under test."""

    def __init__(self, network: Measurable, link: AccessLink, quick: bool, together: int) -> None:
        self.link, self.quick = link, quick
        self.small_rate = max(100.0, min(5000.0, _TOTAL_FRAMES_PER_S / (2 * together)))
        here, there = ([_Agent(network, host) for _ in range(2)] for host in (link.device, "server"))
        self.ways = (_Way("up", link.up, here[0], there[0]), _Way("down", link.down, there[1], here[1]))

    def check(self, direction: str, metric: str, *result: Any) -> Check:
        return Check(self.link.device, direction, metric, *result)

    def both_ways(self, probe: Callable[[_Bench, _Way], Iterable[Check]]) -> list[Check]:
        """A probe of each direction, at the same time: they share nothing."""
        with ThreadPoolExecutor(2) as pool:
            found = pool.map(lambda way: list(probe(self, way)), self.ways)
            return [check for checks in found for check in checks]

    def close(self) -> None:
        for way in self.ways:
            way.sender.close()
            way.receiver.close()


def _round_trip(bench: _Bench) -> list[Check]:
    """The median of pings at rest; with jitter, as sharp as that many pings make a median."""
    up, down = bench.link.up, bench.link.down
    configured = sum(spec.delay_s + spec.frame_time_s(PING_BYTES) for spec in (up, down))
    sigma_s = math.hypot(up.jitter_s, down.jitter_s)
    count = 20 if bench.quick else 100
    rtts = bench.ways[0].sender.ask(
        "ping",
        host=bench.ways[0].receiver.ip,
        count=count,
        interval_s=max(0.02, 6 * sigma_s),
        wait_s=configured + 8 * sigma_s + 0.5,
    )["rtts_s"]
    if len(rtts) < count / 2:
        return [bench.check("both", "rtt", configured, None, f"{len(rtts)} of {count} pings answered", False)]
    return [bench.check("both", "rtt", configured, *_judge_delay(configured, rtts, sigma_s))]


def _delay(bench: _Bench, way: _Way) -> Iterable[Check]:
    """One-way delay of small frames at rest, which a round-trip time cannot tell apart; with enough of
    them, the jitter too."""
    spec = way.spec
    steady = spec.delay_s >= 3 * spec.jitter_s  # Else delays are cut off at 0 and not normal any more.
    judge_jitter = spec.jitter_s > 0 and not bench.quick and steady
    count = 20 if bench.quick else 400 if judge_jitter else 100
    _, frames, _ = way.carry(
        "pace", frame_bytes=SMALL_BYTES, count=count, interval_s=max(0.01, 5 * spec.jitter_s)
    )
    delays = [(received - sent) * 1e-9 for _, sent, received in frames]
    configured = spec.delay_s + spec.frame_time_s(SMALL_BYTES)
    if len(delays) < count / 2:
        gate = f"{len(delays)} of {count} frames arrived"
        yield bench.check(way.name, "delay", configured, None, gate, False)
        return
    yield bench.check(way.name, "delay", configured, *_judge_delay(configured, delays, spec.jitter_s))
    if judge_jitter:
        measured = statistics.stdev(delays)
        within = max(0.1, _Z / math.sqrt(2 * len(delays)))
        passed = abs(measured / spec.jitter_s - 1) <= within
        yield bench.check(way.name, "jitter", spec.jitter_s, measured, f"within {within:.1%}", passed)
    elif spec.jitter_s > 0:
        why = "quick mode" if steady else "the delay is below 3 sigma, so it is cut off at 0"
        yield bench.check(way.name, "jitter", spec.jitter_s, None, f"not tested: {why}", None)


def _judge_delay(configured: float, measured: Sequence[float], sigma_s: float) -> tuple[float, str, bool]:
    """Median, gate and verdict; a median of n normal values has 1.2533 times the error of a mean."""
    median = statistics.median(measured)
    slack = _Z * 1.2533 * sigma_s / math.sqrt(len(measured))
    early, late = _EARLY_S + slack, _LATE_S + slack
    gate = f"-{early * 1e3:.2g}/+{late * 1e3:.2g} ms"
    return median, gate, -early <= median - configured <= late


def _rate(bench: _Bench, way: _Way) -> Iterable[Check]:
    """Layer-2 rate of a saturated link, by the times at which full frames come out of it."""
    spec = way.spec
    duration_s = max(1.0 if bench.quick else 3.0, 20 * spec.frame_time_s(), 200 * spec.jitter_s)
    for _ in range(_ATTEMPTS):
        sent, frames, overruns = way.carry("saturate", **_flood(spec), duration_s=duration_s)
        held_up = sent["idle_s"] > _IDLE_SHARE * duration_s or overruns > 0
        if not held_up:
            break
    stamps = sorted(received for _, _, received in frames)[len(frames) // 10 :]
    if len(stamps) < 10 or held_up:
        why = f"the prober was held up {_ATTEMPTS} times" if held_up else f"{len(frames)} frames arrived"
        yield bench.check(way.name, "rate", spec.rate_bps, None, why, False)
        return
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    typical = statistics.median(gaps)
    # A frame lost on the air leaves its time empty; count it, unless jitter hides where it was.
    lossy, jittery = spec.loss > 0, spec.jitter_s > 0
    count = sum(round(gap / typical) for gap in gaps) if lossy and not jittery and typical else len(gaps)
    measured = 8e9 * FRAME_BYTES * count / (stamps[-1] - stamps[0])
    resolution = _Z * math.sqrt(2) * spec.jitter_s / ((stamps[-1] - stamps[0]) * 1e-9)
    low, high = -0.01 - resolution, 0.01 + resolution
    if lossy and jittery:
        low -= spec.loss + _Z * math.sqrt(spec.loss * (1 - spec.loss) / count)
    passed = low <= measured / spec.rate_bps - 1 <= high
    yield bench.check(way.name, "rate", spec.rate_bps, measured, f"{low:+.1%}/{high:+.1%}", passed)
    if not bench.quick and not lossy and not jittery and spec.rate_bps <= 100e6:
        frame_ns = 8e9 * FRAME_BYTES / spec.rate_bps
        deviation = statistics.quantiles([abs(gap / frame_ns - 1) for gap in gaps], n=10)[8]
        yield bench.check(way.name, "gap", 0.0, deviation, "90th percentile at most 5.0%", deviation <= 0.05)


def _flood(spec: LinkSpec) -> dict[str, Any]:
    """A request that keeps a link busy: 110 % of its rate, and half its queue ahead."""
    return {
        "frame_bytes": FRAME_BYTES,
        "rate_bps": 1.1 * spec.rate_bps,
        "link_bps": spec.rate_bps,
        "queue_bytes": spec.queue_bytes,
        "preload": max(1, spec.queue_bytes // FRAME_BYTES // 2),
    }


def _loss(bench: _Bench, way: _Way) -> Iterable[Check]:
    """Frames lost on the air, offered well below the rate, so that none is lost in the queue."""
    spec = way.spec
    rate = min(bench.small_rate, 0.8 * spec.rate_bps / (8 * SMALL_BYTES))
    count = math.ceil(100 / spec.loss) if spec.loss > 0 else min(1000, max(100, int(rate)))
    if bench.quick and count / rate > _QUICK_LOSS_S:
        gate = f"not tested in quick mode: {count} frames take {count / rate:.0f} s"
        yield bench.check(way.name, "loss", spec.loss, None, gate, None)
        return
    for _ in range(2):  # By chance alone one link in a hundred misses; two in a row, one in ten thousand.
        sent, frames, overruns = way.carry("pace", frame_bytes=SMALL_BYTES, count=count, interval_s=1 / rate)
        lost = sent["sent"] - len({sequence for sequence, _, _ in frames})
        expected, deviation = count * spec.loss, math.sqrt(count * spec.loss * (1 - spec.loss))
        passed = overruns == 0 and abs(lost - expected) <= _Z * deviation
        if passed:
            break
    gate = f"|z| <= {_Z} of {count} frames, a miss repeated once" if spec.loss else f"none of {count} frames"
    if overruns:
        gate += f"; the prober overran by {overruns}"
    yield bench.check(way.name, "loss", spec.loss, lost / count, gate, passed)


def _queue(bench: _Bench, way: _Way) -> Iterable[Check]:
    """What a full queue adds to the round trip of a ping through a saturated link: 8Q/R."""
    spec = way.spec
    if spec.loss > 0.05 or spec.jitter_s > 0:
        yield bench.check(
            way.name, "queue", None, None, "not tested: the link is jittery or very lossy", None
        )
        return
    configured = 8 * spec.queue_bytes / spec.rate_bps
    frame_s = spec.frame_time_s()
    at_rest = sum(s.delay_s + s.frame_time_s(PING_BYTES) for s in (bench.link.up, bench.link.down))
    # The flood's own way has both agents taken; the other way's agents sit on the same two hosts.
    other = bench.ways[1] if way is bench.ways[0] else bench.ways[0]
    duration_s = 2.0 + 11 * configured
    port = way.receiver.ask("listen")["port"]
    way.receiver.begin("collect", quiet_s=way.quiet_s)
    way.sender.begin("saturate", host=way.receiver.ip, port=port, **_flood(spec), duration_s=duration_s)
    time.sleep(6 * configured + at_rest)  # Half is there at once; a tenth of the rate fills the other.
    interval_s = max(0.01, frame_s * 2.7)  # Not in step with the frames, or all pings meet one moment.
    count = max(10, int((duration_s - 7 * configured - at_rest) / interval_s))
    answer = other.receiver.ask(
        "ping", host=way.receiver.ip, count=count, interval_s=interval_s, wait_s=1.0 + configured + at_rest
    )
    way.sender.end()
    way.receiver.hurry()
    way.receiver.end()
    gate = "within 5% and a frame's time"
    if len(answer["rtts_s"]) < 5:
        yield bench.check(way.name, "queue", configured, None, "fewer than 5 pings got through", False)
        return
    measured = statistics.median(answer["rtts_s"]) - at_rest
    passed = abs(measured - configured) <= 0.05 * configured + frame_s
    yield bench.check(way.name, "queue", configured, measured, gate, passed)


def _goodput(bench: _Bench, way: _Way) -> Iterable[Check]:
    """What TCP makes of a clean link once it has filled it, against rate * 1448 / 1514."""
    spec, configured = way.spec, way.spec.tcp_goodput_bps
    round_trip_s = bench.link.up.delay_s + bench.link.down.delay_s
    pipe = spec.rate_bps * round_trip_s / 8
    clean = all(not (s.loss or s.jitter_s) for s in (bench.link.up, bench.link.down))
    # A loss halves nothing if what CUBIC keeps, 0.7 of pipe and queue, still fills the pipe.
    if not clean or 0.7 * (pipe + spec.queue_bytes) < pipe:
        why = "the queue is short for its delay" if clean else "the link is not clean"
        yield bench.check(way.name, "goodput", configured, None, f"not tested: {why}", None)
        return
    skip_s = 1.0 + 20 * round_trip_s + 16 * spec.queue_bytes / spec.rate_bps
    port = way.receiver.ask("accept")["port"]
    hole_s = round_trip_s + 8 * spec.queue_bytes / spec.rate_bps
    until_s = skip_s + max(4.0, 100 * hole_s)
    way.receiver.begin("drain", skip_s=skip_s, until_s=until_s)
    way.sender.ask("pour", host=way.receiver.ip, port=port, duration_s=until_s)
    measured = way.receiver.end()["goodput_bps"]
    # What waits behind a lost segment is handed over at once: a hole at either end shifts up to 1 %.
    passed = -0.03 <= measured / configured - 1 <= 0.01
    yield bench.check(way.name, "goodput", configured, measured, "-3.0%/+1.0%", passed)


def _in_turn(probe: Callable[[_Bench, _Way], Iterable[Check]]) -> Callable[[_Bench], list[Check]]:
    """One direction after the other: each needs the opposite one for answers."""
    return lambda bench: [check for way in bench.ways for check in probe(bench, way)]


def _at_once(probe: Callable[[_Bench, _Way], Iterable[Check]]) -> Callable[[_Bench], list[Check]]:
    return lambda bench: bench.both_ways(probe)


_QUICK = (_round_trip, _at_once(_delay), _at_once(_rate), _at_once(_loss))
_FULL = (*_QUICK, _in_turn(_queue), _in_turn(_goodput))
