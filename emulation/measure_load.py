"""What a link does under a load that fills it: how long the queue gets, and what TCP makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from emulation import expected, gates
from emulation.agents import Way
from emulation.gates import not_tested, nothing_measured
from emulation.link import FRAME_BYTES, LinkSpec
from emulation.measure import Bench, Named, Stage, flood, in_turn
from emulation.probes import PING_BYTES

_CODEL_MOST_BPS = 20e6


def _queue_s(spec: LinkSpec) -> float:
    """How long the flood lasts; CoDel needs time to take hold."""
    if spec.aqm == "codel":
        return 12.0
    configured = 8 * expected.queue_bytes(spec) / spec.rate_bps
    return 2.0 + (11 if spec.queue_frames is None else 36) * configured


def _why_no_queue(spec: LinkSpec) -> str:
    """What hides the queue's length on this link; empty if nothing does."""
    configured, codel = 8 * expected.queue_bytes(spec) / spec.rate_bps, spec.aqm == "codel"
    reasons = (
        (spec.trace is not None, "a trace's rate varies"),
        (spec.outages is not None, "outages stop the queue"),
        (spec.loss > 0.05, "more than 5% is lost"),
        (4 * expected.delay(spec).sigma_s > 0.05 * configured, "jitter hides it"),
        (
            codel and spec.rate_bps > _CODEL_MOST_BPS,
            "UDP does not slow down, and CoDel is slow above 20 Mbit/s",
        ),
        (codel and configured < 3 * gates.CODEL_MOST_S, "the queue is too short for CoDel to matter"),
    )
    return next((why for unfit, why in reasons if unfit), "")


def queue(bench: Bench, way: Way) -> Named:
    """What a full queue adds to the round trip of a ping through a saturated link, or what CoDel leaves.

    A miss is measured once more: a flood that was held up leaves the queue short.
    """
    spec = way.spec
    configured = 8 * expected.queue_bytes(spec) / spec.rate_bps
    if why := _why_no_queue(spec):
        yield "queue", not_tested(configured, why)
        return
    for _ in range(2):
        waits, count = _waits_s(bench, way)
        if len(waits) < 5:
            verdict = nothing_measured(configured, f"{len(waits)} of {count} pings got through")
        else:
            verdict = (gates.standing_delay if spec.aqm == "codel" else gates.queue)(waits, spec)
        if verdict.passed:
            break
    yield "queue", verdict


def _waits_s(bench: Bench, way: Way) -> tuple[list[float], int]:
    """How long pings waited in the full queue, and how many were sent."""
    spec, codel = way.spec, way.spec.aqm == "codel"
    configured = 8 * expected.queue_bytes(spec) / spec.rate_bps
    at_rest = sum(s.delay_s + s.frame_time_s(PING_BYTES) for s in bench.specs)
    # The flood's own way has both agents taken; the other way's agents sit on the same two hosts.
    opposite, duration_s = bench.opposite(way), _queue_s(spec)
    settle_s = at_rest + (duration_s / 2 if codel else 6 * configured)  # A tenth of the rate fills one half.
    port = way.receiver.ask("listen")["port"]
    way.receiver.begin("collect", quiet_s=way.quiet_s)
    request = flood(spec, (1.03 if codel else 1.1) * spec.rate_bps)
    way.sender.begin("saturate", host=way.receiver.ip, port=port, **request, duration_s=duration_s)
    time.sleep(settle_s)
    interval_s = max(0.01, spec.frame_time_s() * 2.7)  # Not in step with frames, or all meet one moment.
    if spec.queue_frames is not None:  # A ping takes the place of a full frame: one at a time.
        interval_s = max(interval_s, 1.9 * configured)
    count = max(10, int((duration_s - settle_s - configured) / interval_s))
    answer = opposite.receiver.ask(
        "ping", host=way.receiver.ip, count=count, interval_s=interval_s, wait_s=1 + configured + at_rest
    )
    way.sender.end()
    way.receiver.hurry()
    way.receiver.end()
    return [rtt - at_rest for rtt in answer["rtts_s"]], count


def _clean(spec: LinkSpec) -> bool:
    return not (expected.missing(spec) or spec.jitter_s or spec.duplicate or spec.outages or spec.trace)


def _goodput_plan(bench: Bench, spec: LinkSpec) -> tuple[float, float]:
    """When counting starts and ends: long after the start, and long against a hole of one recovery."""
    round_trip_s = sum(spec.delay_s for spec in bench.specs)
    queue_s = 8 * expected.queue_bytes(spec) / spec.rate_bps
    skip_s = 1.0 + 20 * round_trip_s + 2 * queue_s
    return skip_s, skip_s + max(4.0, 100 * (round_trip_s + queue_s))


def _why_no_goodput(bench: Bench, spec: LinkSpec) -> str:
    """What keeps TCP from filling this link; empty if nothing does."""
    if not all(map(_clean, bench.specs)):
        return "the link is not clean"
    pipe = spec.rate_bps * sum(spec.delay_s for spec in bench.specs) / 8
    held = expected.queue_bytes(spec)
    if spec.aqm == "codel":
        held = min(held, int(expected.CODEL_TARGET_S * spec.rate_bps / 8))
    # A loss halves nothing if what CUBIC keeps, 0.7 of pipe and queue, still fills the pipe.
    return "the queue is short for its delay" if 0.7 * (pipe + held) < pipe else ""


def goodput(bench: Bench, way: Way) -> Named:
    """What TCP makes of a clean link once it has filled it."""
    spec = way.spec
    if why := _why_no_goodput(bench, spec):
        yield "goodput", not_tested(spec.tcp_goodput_bps, why)
        return
    skip_s, until_s = _goodput_plan(bench, spec)
    port = way.receiver.ask("accept")["port"]
    way.receiver.begin("drain", skip_s=skip_s, until_s=until_s)
    way.sender.ask("pour", host=way.receiver.ip, port=port, duration_s=until_s)
    yield "goodput", gates.goodput(way.receiver.end()["goodput_bps"], spec)


def _goodput_s(bench: Bench, spec: LinkSpec) -> float:
    return 0.0 if _why_no_goodput(bench, spec) else _goodput_plan(bench, spec)[1]


def _one_after_the_other(seconds: Callable[[Bench, LinkSpec], float]) -> Callable[[Bench], float]:
    return lambda bench: sum(seconds(bench, spec) for spec in bench.specs)


def _one_rate(bench: Bench) -> float:
    return 1.5 * max(spec.rate_bps for spec in bench.specs) / (8 * FRAME_BYTES)


def _segments_rate(bench: Bench) -> float:
    """What TCP's segments cost, as frames of a flood: the receiver's work and its acknowledgement fall into
    the forwarding process's time. Eleven links of 20 Mbit/s at once took it 0.4 of a core, so that it fell
    behind wherever the machine was three times slower for some milliseconds; three leave it room."""
    return 6 * _one_rate(bench)


QUEUE = Stage(
    in_turn(queue),
    _one_after_the_other(lambda _, spec: 0.0 if _why_no_queue(spec) else _queue_s(spec)),
    _one_rate,
)
GOODPUT = Stage(in_turn(goodput), _one_after_the_other(_goodput_s), _segments_rate)
