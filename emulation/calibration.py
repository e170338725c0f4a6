"""Configured against measured: every link as its ends see it, judged by gates.

Nothing here is shared with the backends: agents (agents.py, probes.py) join the namespaces of the hosts at
a link's ends, send across it with plain sockets (measure.py, measure_load.py), and what arrives is judged by
pure functions (gates.py). Quick mode fits in the seconds before a run and says of what it has no time for
that it was not tested (`passed` is None).
"""

from __future__ import annotations

import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from emulation import measure, measure_load
from emulation.agents import Agents, Way
from emulation.link import AccessLink, LinkSpec
from emulation.measure import Bench, Stage
from emulation.probes import SMALL_BYTES

FRAMES_PER_S = 32_000.0
"""What all probes at a time may send: two busy cores carry it for minutes without disturbing one another."""
_AIRTIME = 0.1
"""Of an air's time, what lone frames may take together: a frame of theirs meets another's in one case in ten,
and waits for it no longer than that takes, some microseconds."""
_FEWEST_PER_S = 50.0  # Slower than this, 100 frames on one link after the other are sooner done.
_EXACT = 1e-6  # Of frames a second or of an air's time: shares that should add up to all of it do.
_LINKS_AT_ONCE = 128  # Four agents each.
_WORTH_SAYING_S = 120.0

QUICK: tuple[Stage, ...] = (measure.ROUND_TRIP, measure.DELAY, measure.RATE, measure.AIR)
FULL = (*QUICK, measure_load.QUEUE, measure_load.GOODPUT, measure.OUTAGES)


@dataclass(frozen=True)
class Check:
    """One comparison; `passed` is None where nothing was judged, and `gate` then says why.

    `metric` is "rate", "goodput" (bit/s), "rtt", "delay", "jitter", "queue", "outage", "timing" (s),
    "loss", "duplicate", "corrupt", "reordering", "down" (shares), "burst" (frames) or "gap", "gap_p50",
    "gap_p99" (shares of a frame's time); `direction` "up", "down" or "both"; `bounds` the least and the
    most `measured` may be.
    """

    link: str
    direction: str
    metric: str
    configured: float | None
    measured: float | None
    gate: str
    passed: bool | None
    bounds: tuple[float, float] | None = None


class Measurable(Protocol):
    """What calibration needs to know of a network: emulation.topology.Network has it."""

    @property
    def links(self) -> Sequence[AccessLink]: ...
    def ends(self, link: AccessLink) -> tuple[str, str]: ...
    def pid(self, host: str) -> int: ...
    def ip(self, host: str) -> str: ...


def calibrate(network: Measurable, *, quick: bool, frames_per_s: float = FRAMES_PER_S) -> list[Check]:
    """Measure every link of a network that carries nothing else; the checks, link by link.

    What fills a link is sent on one at a time of those that share air; lone small frames on as many as leave
    nine tenths of it idle. Quick takes about 8 s for four devices; full about a minute and more for rare
    losses or outages, and says on standard error for how long if that is more than two minutes. Raises
    LinkError if a probe itself cannot be made.
    """
    links, stages = network.links, QUICK if quick else FULL
    duration_s = estimate_s(links, quick=quick, frames_per_s=frames_per_s)
    if duration_s > _WORTH_SAYING_S:
        print(f"calibration: about {duration_s / 60:.0f} min", file=sys.stderr, flush=True)
    budget, checks = _Budget(frames_per_s), {link.device: list[Check]() for link in links}
    for batch in _batches(links):
        with Agents() as agents, ThreadPoolExecutor(len(batch)) as pool:
            benches = [
                _bench(network, link, quick, agents, _fair_per_s(link, batch, frames_per_s)) for link in batch
            ]
            airs = _airs(benches)
            try:
                for stage in stages:  # One kind of probe at a time: a delay is measured on links at rest.
                    every = pool.map(partial(_run, stage, budget, airs), benches)
                    for link, found in zip(batch, every, strict=True):
                        checks[link.device] += found
            finally:
                for bench in benches:
                    bench.close()
    return [check for link in links for check in checks[link.device]]


def estimate_s(links: Sequence[AccessLink], *, quick: bool, frames_per_s: float = FRAMES_PER_S) -> float:
    """About how long `calibrate` takes for these links, if no probe must be repeated."""
    total_s = 0.0
    for batch in _batches(links):
        benches = [
            Bench(link, _specs(link, links), quick, fair_per_s=_fair_per_s(link, batch, frames_per_s))
            for link in batch
        ]
        total_s += 0.5 + 0.02 * len(batch)  # The agents' start.
        for stage in QUICK if quick else FULL:
            seconds = {bench.link.device: stage.seconds(bench) + 1 for bench in benches}
            air_s = [
                sum(seconds[bench.link.device] * min(stage.airtime(bench) / _AIRTIME, 1) for bench in group)
                for group in _together(benches)
            ]
            work = sum(stage.seconds(bench) * stage.frames_per_s(bench) for bench in benches)
            total_s += max(*seconds.values(), *air_s, work / frames_per_s)
    return total_s


def _batches(links: Sequence[AccessLink]) -> Iterator[list[AccessLink]]:
    for first in range(0, len(links), _LINKS_AT_ONCE):
        yield list(links[first : first + _LINKS_AT_ONCE])


def _airs(benches: Sequence[Bench]) -> dict[str, _Budget]:
    """Device -> the air that it sends in, its own or one that it shares."""
    found: dict[str, _Budget] = {}
    for group in _together(benches):
        found |= dict.fromkeys((bench.link.device for bench in group), _Budget(_AIRTIME))
    return found


def _together(benches: Sequence[Bench]) -> list[list[Bench]]:
    """Those that begin in one air, before any moves."""
    groups: dict[str, list[Bench]] = defaultdict(list)
    for bench in benches:
        air = bench.link.air
        groups[f"air {air.name}" if air else f"link {bench.link.device}"].append(bench)
    return list(groups.values())


def _run(stage: Stage, budget: _Budget, airs: Mapping[str, _Budget], bench: Bench) -> list[Check]:
    device = bench.link.device
    with airs[device].taken(stage.airtime(bench)), budget.taken(stage.frames_per_s(bench)):
        found = stage.measure(bench)
    return [Check(device, direction, metric, **vars(verdict)) for direction, metric, verdict in found]


def _fair_per_s(link: AccessLink, batch: Sequence[AccessLink], frames_per_s: float) -> float:
    """Small frames a second each way, so that all can be probed at the same time: as many as the machine
    carries and their air has room for, unless that is so few that one link after the other is done sooner."""
    by_machine = frames_per_s / (2 * len(batch))
    sharers = _sharers(link, batch)
    if len(sharers) < 2:
        return by_machine
    by_air = _AIRTIME / len(sharers) / max(spec.frame_time_s(SMALL_BYTES) for spec in _specs(link, sharers))
    return min(by_machine, by_air) if by_air >= _FEWEST_PER_S else by_machine


def _sharers(link: AccessLink, links: Sequence[AccessLink]) -> list[AccessLink]:
    """Those of `links` that begin in the same air as this one, which is among them."""
    if link.air is None:
        return [link]
    return [other for other in links if other.air is not None and other.air.name == link.air.name]


def _specs(link: AccessLink, links: Sequence[AccessLink]) -> tuple[LinkSpec, LinkSpec]:
    """What the link should be while the others rest: all of its rate, unless the air is divided for good."""
    if link.air is None or link.air.scheduler != "fixed":
        return link.up, link.down
    sharers = len(_sharers(link, links))
    up, down = (replace(spec, rate_bps=spec.rate_bps / sharers) for spec in (link.up, link.down))
    return up, down


def _bench(network: Measurable, link: AccessLink, quick: bool, agents: Agents, fair_per_s: float) -> Bench:
    """Two agents at each end: one sends and one receives, so that both directions go at once."""
    lower, upper = network.ends(link)
    here, there = (
        [agents.start(host, network.pid(host), network.ip(host)) for _ in "12"] for host in (lower, upper)
    )
    up, down = _specs(link, network.links)
    ways = (Way("up", up, here[0], there[0]), Way("down", down, there[1], here[1]))
    return Bench(link, (up, down), quick, ways, fair_per_s)


class _Budget:
    """What may still be spent at a time, as of frames a second; whoever wants more waits."""

    def __init__(self, total: float) -> None:
        self._total = self._left = total
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, amount: float) -> Iterator[None]:
        amount = min(amount, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount - _EXACT)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()
