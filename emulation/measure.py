"""One link under test: what is sent across it, by whom, for how long; gates.py judges what arrives.

Each stage knows how long it takes and how many frames a second it sends, so that calibration can run as
many links at a time as the machine carries undisturbed. A probe whose sender was held up, so that the
link ran idle, or whose receiver overran, is repeated: it would measure the machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from emulation import expected, gates
from emulation.agents import Arrivals, Way
from emulation.gates import Tally, Verdict, not_tested, nothing_measured
from emulation.link import FRAME_BYTES, AccessLink, LinkSpec
from emulation.probes import PING_BYTES, SMALL_BYTES

SMALL_FRAMES_PER_S = 5000.0
_ATTEMPTS_QUICK, _ATTEMPTS = 3, 8  # Of a probe that was held up.
_IDLE_SHARE = 0.002  # A link idle for longer than this makes a rate probe worthless: the gate is 1 %.
_AT_ONCE = 8  # Small frames that a sender which was held up sends together.
_PART = 50_000  # Frames of one survey kept in memory at a time.
_QUICK_S, _LONGEST_S = 4.0, 600.0  # What one probe may take at the most: quick, full.
_OUTAGES, _FEWEST_OUTAGES, _OUTAGES_S = 200, 25, 120.0
_MOST_FLOOD_FRAMES_PER_S = 12_000  # What one Python sender keeps up on a busy core.

Named = Iterable[tuple[str, Verdict]]
"""(metric, verdict) each."""


@dataclass(frozen=True)
class Bench:
    """A link, its specs (up, down) as they should be now, and its two ways (none: it is only planned)."""

    link: AccessLink
    specs: tuple[LinkSpec, LinkSpec]
    quick: bool
    ways: tuple[Way, ...] = ()
    fair_per_s: float = SMALL_FRAMES_PER_S
    """Small frames a second each way that leave all links measured at the same time as many."""

    def opposite(self, way: Way) -> Way:
        return self.ways[1] if way is self.ways[0] else self.ways[0]

    def close(self) -> None:
        for way in self.ways:
            way.sender.close()
            way.receiver.close()


Found = list[tuple[str, str, Verdict]]
"""(direction, metric, verdict) each."""


@dataclass(frozen=True)
class Stage:
    """One kind of probe: how to make it, and what it takes of time (s), of the machine (frames/s) and of the
    link's rate (its share in the busier direction; a flood takes all)."""

    measure: Callable[[Bench], Found]
    seconds: Callable[[Bench], float]
    frames_per_s: Callable[[Bench], float]
    airtime: Callable[[Bench], float] = lambda bench: 1.0


def at_once(probe: Callable[[Bench, Way], Named]) -> Callable[[Bench], Found]:
    """Both directions at the same time: they share nothing."""

    def measure(bench: Bench) -> Found:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda way: list(probe(bench, way)), bench.ways))
        pairs = zip(bench.ways, found, strict=True)
        return [(way.name, metric, verdict) for way, named in pairs for metric, verdict in named]

    return measure


def in_turn(probe: Callable[[Bench, Way], Named]) -> Callable[[Bench], Found]:
    """One direction after the other: each needs the opposite one for answers."""
    return lambda bench: [(way.name, metric, v) for way in bench.ways for metric, v in probe(bench, way)]


def not_by_chance(look: Callable[[], dict[str, Verdict]]) -> dict[str, Verdict]:
    """What a probe of random things finds: by chance alone one in a hundred misses; two in a row, one in ten
    thousand."""
    found = look()
    return found if _pass(found) else look()


def _pass(found: dict[str, Verdict]) -> bool:
    return all(verdict.passed is not False for verdict in found.values())


def _too_long(bench: Bench, seconds: float) -> bool:
    return seconds > (_QUICK_S if bench.quick else _LONGEST_S)


def _ping_plan(bench: Bench) -> tuple[int, float]:
    """How many pings, how far apart: no two close enough for jitter to make one wait for the other."""
    return 20 if bench.quick else 100, max(0.02, sum(expected.delay(spec).range_s for spec in bench.specs))


def round_trip(bench: Bench) -> Found:
    """Pings at rest, after one that finds the way (and makes hosts learn each other's address)."""
    configured = sum(expected.delay(s).mean_s + s.frame_time_s(PING_BYTES) for s in bench.specs)
    if any(spec.trace for spec in bench.specs):
        return [("both", "rtt", not_tested(None, "a trace decides when a frame leaves"))]
    (count, interval_s), sigma_s = _ping_plan(bench), sum(spec.jitter_s for spec in bench.specs)
    way, wait_s = bench.ways[0], configured + 8 * sigma_s + 0.5
    target = {"host": way.receiver.ip, "wait_s": wait_s}
    way.sender.ask("ping", **target, count=1, interval_s=0.0)

    def look() -> dict[str, Verdict]:
        rtts = way.sender.ask("ping", **target, count=count, interval_s=interval_s)["rtts_s"]
        if len(rtts) < count / 2:
            return {"rtt": nothing_measured(configured, f"{len(rtts)} of {count} pings answered")}
        return {"rtt": gates.delay(rtts, bench.specs, PING_BYTES)}

    return [("both", metric, verdict) for metric, verdict in not_by_chance(look).items()]


def _delay_plan(bench: Bench, spec: LinkSpec) -> tuple[int, float]:
    law = expected.delay(spec)
    interval_s = max(0.01, law.range_s)
    if bench.quick or not spec.jitter_s:
        return 20 if bench.quick else 100, interval_s
    enough = math.ceil((expected.Z / 0.1) ** 2 * (law.kurtosis - 1) / 4)
    return max(100, min(max(400, enough), int(60 / interval_s))), interval_s


def delay(bench: Bench, way: Way) -> Named:
    """One-way delay of lone small frames, which a round-trip time cannot tell apart; and the jitter."""
    spec = way.spec
    if spec.trace is not None:
        yield "delay", not_tested(None, "a trace decides when a frame leaves")
        return
    yield from not_by_chance(lambda: _one_way(bench, way)).items()


def _one_way(bench: Bench, way: Way) -> dict[str, Verdict]:
    spec = way.spec
    count, interval_s = _delay_plan(bench, spec)
    arrivals = way.carry(
        "pace", frame_bytes=SMALL_BYTES, count=count, interval_s=interval_s, at_once=_AT_ONCE
    )
    delays = arrivals.delays_s
    if len(delays) < count / 2:
        why = f"{len(delays)} of {count} frames arrived"
        if bench.quick and spec.outages:
            return {"delay": not_tested(spec.delay_s, f"{why}: the link was down")}
        return {"delay": nothing_measured(spec.delay_s, why)}
    found = {"delay": gates.delay(delays, (spec,), SMALL_BYTES)}
    if spec.jitter_s:
        found["jitter"] = (
            not_tested(spec.jitter_s, "quick mode") if bench.quick else gates.jitter(delays, spec)
        )
    return found


def flood(spec: LinkSpec, rate_bps: float) -> dict[str, Any]:
    """A request that keeps a link busy at `rate_bps`, with half its queue ahead."""
    held = expected.queue_bytes(spec)
    if spec.aqm == "codel":
        held = min(held, max(4 * FRAME_BYTES, int(2 * expected.CODEL_TARGET_S * spec.rate_bps / 8)))
    return {
        "frame_bytes": FRAME_BYTES,
        "rate_bps": rate_bps,
        "link_bps": spec.rate_bps,
        "queue_bytes": held,
        "preload": max(1, held // FRAME_BYTES // 2),
    }


def _rate_s(bench: Bench, spec: LinkSpec) -> float:
    if spec.trace is not None:
        period_s = spec.trace.deliveries_ms[-1] * 1e-3
        return 1.05 * period_s * math.ceil((1 if bench.quick else 3) / period_s) + 0.2
    sigmas = 200 if bench.quick else 1000
    return max(1.0 if bench.quick else 3.0, 20 * spec.frame_time_s(), sigmas * spec.jitter_s)


def _why_no_rate(bench: Bench, spec: LinkSpec) -> str:
    """What keeps a trace from being measured; empty if nothing does."""
    if spec.trace is None:
        return ""
    if _too_long(bench, _rate_s(bench, spec)):
        return f"whole periods of the trace take {_rate_s(bench, spec):.0f} s"
    if expected.saturating_bps(spec) > 8 * FRAME_BYTES * _MOST_FLOOD_FRAMES_PER_S:
        return "the trace's bursts are too large to keep its queue filled"
    return ""


def rate(bench: Bench, way: Way) -> Named:
    """Layer-2 rate of a saturated link, by when full frames come out of it; and their order."""
    spec, duration_s = way.spec, _rate_s(bench, way.spec)
    if why := _why_no_rate(bench, spec):
        yield "rate", not_tested(spec.rate_bps, why)
        return
    offered_bps, attempts = expected.saturating_bps(spec), _ATTEMPTS_QUICK if bench.quick else _ATTEMPTS
    for _ in range(attempts):
        arrivals = way.carry("saturate", **flood(spec, offered_bps), duration_s=duration_s)
        held_up = spec.trace is None and arrivals.sent["idle_s"] > _IDLE_SHARE * duration_s
        # The kernel counts frames that it drops for their checksum as overruns, too.
        held_up = held_up or bool(arrivals.overruns and not spec.corrupt)
        found = dict(_judge_flood(bench, arrivals, spec))
        if not held_up and (spec.trace is None or _pass(found)):
            break
    if held_up:
        found["rate"] = nothing_measured(spec.rate_bps, f"the prober was held up {attempts} times")
    yield from found.items()


def _judge_flood(bench: Bench, arrivals: Arrivals, spec: LinkSpec) -> Named:
    stamps = arrivals.first_ns
    steady = not expected.missing(spec) and not spec.jitter_s
    if spec.trace is not None:
        yield "rate", gates.trace_rate(stamps, spec)
        if steady and not bench.quick:
            yield "timing", gates.trace_timing(stamps, spec)
    elif spec.outages and bench.quick and len(stamps) < 100:
        yield "rate", not_tested(spec.rate_bps, f"{len(stamps)} frames arrived: the link was down")
    else:
        yield "rate", gates.rate(stamps, spec)
        if steady and not bench.quick and not spec.outages and spec.rate_bps <= 100e6:
            yield from gates.gap(stamps, spec).items()
    yield "reordering", gates.reordering(arrivals.sequences)


def _air_plan(bench: Bench, spec: LinkSpec) -> tuple[int, float]:
    """How many small frames, and how many a second: well below the rate, so that none waits for long.

    Where frames need only not be lost, a second of them is enough, no faster than all links can at once.
    """
    share = 0.8 if expected.queue_bytes(spec) >= _AT_ONCE * FRAME_BYTES else 0.3
    if spec.queue_frames is not None and spec.queue_frames < 4 * _AT_ONCE:
        share = 0.3
    per_s = min(SMALL_FRAMES_PER_S, share * spec.rate_bps / (8 * SMALL_BYTES))
    if spec.trace is not None:
        still_s = expected.longest_still_s(spec.trace)
        per_s = min(per_s, 0.5 * expected.queue_bytes(spec) / SMALL_BYTES / still_s)
    if count := expected.frames_to_see(spec):
        return count, per_s
    per_s = min(per_s, bench.fair_per_s)
    return min(1000, max(100, int(per_s))), per_s


def air(bench: Bench, way: Way) -> Named:
    """What the air does to single frames: loss, its bursts, copies, damage."""
    spec = way.spec
    count, per_s = _air_plan(bench, spec)
    asked = [name for name in ("loss", "duplicate", "corrupt") if name == "loss" or getattr(spec, name)]
    why = ""
    if spec.outages:
        why = "outages let the queue overflow"
    elif _too_long(bench, count / per_s):
        why = f"{count} frames take {count / per_s:.0f} s"
    if why:
        for name in asked:
            yield name, not_tested(getattr(spec, name), f"{why} (quick mode)" if bench.quick else why)
        return

    def look() -> dict[str, Verdict]:
        tally, overruns = _survey(way, count, per_s)
        found = {name: getattr(gates, name)(tally, spec) for name in asked}
        if spec.loss and not bench.quick:
            found["burst"] = (
                not_tested(spec.loss_burst, "damaged frames lose their numbers")
                if spec.corrupt
                else gates.burst(tally, spec)
            )
        if overruns:
            found["loss"] = nothing_measured(spec.loss, f"the prober overran by {overruns}")
        return found

    yield from not_by_chance(look).items()


def _survey(way: Way, count: int, per_s: float) -> tuple[Tally, int]:
    """Small frames in parts; the tally of all, and by how many the receiver overran."""
    tally, overruns = Tally(0, 0, 0, 0, []), 0
    room = way.spec.queue_frames or _AT_ONCE
    while tally.sent < count:
        arrivals = way.carry(
            "pace",
            damaged=bool(way.spec.corrupt),
            frame_bytes=SMALL_BYTES,
            count=min(_PART, count - tally.sent),
            interval_s=1 / per_s,
            at_once=min(_AT_ONCE, room),
        )
        tally += Tally.of(arrivals.sent["sent"], arrivals.sequences, arrivals.corrupted)
        overruns += arrivals.overruns
    return tally, overruns


def _outage_plan(spec: LinkSpec) -> tuple[int, float, float]:
    """How many outages, seconds for them, and between the frames that look for them."""
    assert spec.outages is not None
    period_s = spec.outages.mean_up_s + spec.outages.mean_down_s
    count = max(_FEWEST_OUTAGES, min(_OUTAGES, int(_OUTAGES_S / period_s)))
    return count, count * period_s, min(0.02, max(0.002, spec.outages.mean_down_s / 25))


def outages(bench: Bench, way: Way) -> Named:
    """Times without a link, as gaps in a train of small frames."""
    spec = way.spec
    if spec.outages is None:
        return
    count, duration_s, interval_s = _outage_plan(spec)
    threshold_s = gates.outage_threshold_s(interval_s)
    why = ""
    if bench.quick:
        why = "quick mode"
    elif _too_long(bench, duration_s):
        why = f"{count} outages take {duration_s:.0f} s"
    elif threshold_s > spec.outages.mean_down_s:
        why = "too short to be told from a busy machine's"
    elif spec.loss_burst > 1 or expected.delay(spec).range_s > threshold_s / 2 or spec.trace:
        why = "bursts of loss, jitter or a trace look like them"
    if why:
        yield "outage", not_tested(spec.outages.mean_down_s, why)
        return
    arrivals = way.carry(
        "pace",
        frame_bytes=SMALL_BYTES,
        count=int(duration_s / interval_s),
        interval_s=interval_s,
        at_once=_AT_ONCE,
    )
    stamps = sorted(arrivals.first_ns)
    gaps = [(later - earlier) * 1e-9 for earlier, later in itertools.pairwise(stamps)]
    yield from gates.outages(gaps, interval_s, spec.outages).items()


def busiest(taken: Callable[[Bench, LinkSpec], float]) -> Callable[[Bench], float]:
    """What the direction takes that takes most, as of time where both go at once."""
    return lambda bench: max(taken(bench, spec) for spec in bench.specs)


def _few(_: Bench) -> float:
    return 400.0


def _share(per_s: float, frame_bytes: int, spec: LinkSpec) -> float:
    return per_s * spec.frame_time_s(frame_bytes)


def _pings_share(bench: Bench, spec: LinkSpec) -> float:
    return _share(1 / _ping_plan(bench)[1], PING_BYTES, spec)


def _delays_share(bench: Bench, spec: LinkSpec) -> float:
    return _share(1 / _delay_plan(bench, spec)[1], SMALL_BYTES, spec)


def _air_share(bench: Bench, spec: LinkSpec) -> float:
    return _share(_air_plan(bench, spec)[1], SMALL_BYTES, spec)


def _both_rates(bench: Bench) -> float:
    tested = [spec for spec in bench.specs if not _why_no_rate(bench, spec)]
    return sum(expected.saturating_bps(spec) / (8 * FRAME_BYTES) for spec in tested)


def _air_rates(bench: Bench) -> float:
    return sum(_air_plan(bench, spec)[1] for spec in bench.specs)


def _air_s(bench: Bench, spec: LinkSpec) -> float:
    count, per_s = _air_plan(bench, spec)
    return 0.0 if _too_long(bench, count / per_s) else count / per_s


def _outages_s(bench: Bench, spec: LinkSpec) -> float:
    return 0.0 if bench.quick or not spec.outages else _outage_plan(spec)[1]


ROUND_TRIP = Stage(round_trip, lambda bench: math.prod(_ping_plan(bench)), _few, busiest(_pings_share))
DELAY = Stage(
    at_once(delay),
    busiest(lambda bench, spec: math.prod(_delay_plan(bench, spec))),
    _few,
    busiest(_delays_share),
)
RATE = Stage(
    at_once(rate),
    busiest(lambda bench, spec: 0.0 if _why_no_rate(bench, spec) else _rate_s(bench, spec)),
    _both_rates,
)
AIR = Stage(at_once(air), busiest(_air_s), _air_rates, busiest(_air_share))
OUTAGES = Stage(at_once(outages), busiest(_outages_s), _few)
