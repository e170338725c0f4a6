"""Judging what was measured: pure functions from a sample and what was asked for to a verdict.

The gates are DESIGN.md's (section 4), widened only by the sampling error of a sample that size, at 99 %; each
verdict states its own.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from emulation import expected
from emulation.expected import Z
from emulation.link import FRAME_BYTES, LinkSpec, Outages

EARLY_S, LATE_S = 0.1e-3, 0.5e-3
CODEL_MOST_S = 15e-3
"""CoDel's target of 5 ms and a tenth of its interval (RFC 8289, section 3): where it holds a queue against
an overload of 3 %, by simulation of the RFC's pseudo-code up to 20 Mbit/s."""


@dataclass(frozen=True)
class Verdict:
    """One comparison; `passed` is None where nothing was judged, and `gate` then says why.

    `bounds` are the least and the most that `measured` may be.
    """

    configured: float | None
    measured: float | None
    gate: str
    passed: bool | None
    bounds: tuple[float, float] | None = None


def not_tested(configured: float | None, why: str) -> Verdict:
    return Verdict(configured, None, f"not tested: {why}", None)


def nothing_measured(configured: float | None, why: str) -> Verdict:
    """A miss: the probe should have got something and did not."""
    return Verdict(configured, None, why, False)


def _within(configured: float, measured: float, low: float, high: float, gate: str) -> Verdict:
    return Verdict(configured, measured, gate, low <= measured <= high, (low, high))


def _relative(
    configured: float, measured: float, low: float, high: float, of: float | None = None
) -> Verdict:
    """Gate from `low` to `high` as shares of `of` (default: what was configured)."""
    base = configured if of is None else of
    return _within(configured, measured, base * (1 + low), base * (1 + high), f"{low:+.1%}/{high:+.1%}")


def delay(measured: Sequence[float], specs: Sequence[LinkSpec], frame_bytes: int) -> Verdict:
    """Delays (s) of lone frames of that size across `specs` one after the other, against their sum.

    The median, which a disturbance does not move; with jitter the mean, whose error is known for any
    distribution; behind an outage, which holds frames back, the fastest tenth.
    """
    laws = [expected.delay(spec) for spec in specs]
    configured = sum(law.mean_s for law in laws) + sum(spec.frame_time_s(frame_bytes) for spec in specs)
    sigma_s = math.hypot(*(law.sigma_s for law in laws))
    outages = any(spec.outages for spec in specs)
    if sigma_s and outages:
        return not_tested(configured, "outages hold frames back by more than the jitter")
    slack_s = Z * sigma_s / math.sqrt(len(measured))
    gate = f"-{(EARLY_S + slack_s) * 1e3:.2g}/+{(LATE_S + slack_s) * 1e3:.2g} ms"
    if sigma_s:
        value = statistics.fmean(measured)
    elif outages:
        value, gate = statistics.quantiles(measured, n=10)[0], f"{gate}, fastest tenth"
    else:
        value = statistics.median(measured)
    return _within(configured, value, configured - EARLY_S - slack_s, configured + LATE_S + slack_s, gate)


def jitter(delays: Sequence[float], spec: LinkSpec) -> Verdict:
    """Standard deviation (s) of the one-way delays of lone frames, against what the delay line makes."""
    law = expected.delay(spec)
    within = max(0.1, Z * expected.jitter_error(law.kurtosis, len(delays)))
    return _relative(law.sigma_s, statistics.stdev(delays), -within, within)


def reordering(sequences: Sequence[int]) -> Verdict:
    """Share of frames, numbered as sent, in order of arrival, that came after a later one; copies aside."""
    newest, overtaken, seen = -1, 0, set[int]()
    for sequence in sequences:
        overtaken += sequence < newest and sequence not in seen
        newest = max(newest, sequence)
        seen.add(sequence)
    return _within(0.0, overtaken / max(1, len(seen)), 0, 0, f"none of {len(seen)} frames")


def rate(arrivals_ns: Sequence[int], spec: LinkSpec) -> Verdict:
    """Layer-2 rate of a saturated link, from the times at which full frames (copies aside) came out of it.

    A frame lost on the air leaves its time empty, which shows as a gap of several frames' times; jitter
    hides where, and then the lost are counted by their share. Outages are left out.
    """
    stamps = sorted(arrivals_ns)[len(arrivals_ns) // 10 :]
    if len(stamps) < 10:
        return nothing_measured(spec.rate_bps, f"{len(arrivals_ns)} frames arrived")
    gaps = [later - earlier for earlier, later in itertools.pairwise(stamps)]
    typical = statistics.median(gaps)
    if spec.outages:
        held_ns = max(4 * typical, 5e6)
        gaps = [gap for gap in gaps if gap <= held_ns]
        # Outages too short to be told from gaps between frames are among them, as often as their law says.
        unseen_s = expected.mean_outage_below_s(spec.outages, (held_ns - typical) * 1e-9)
    span_s, lost, law = sum(gaps) * 1e-9, expected.missing(spec), expected.delay(spec)
    span_s /= 1 + unseen_s / spec.outages.mean_up_s if spec.outages else 1
    if lost and typical and not law.sigma_s and lost < 0.4:
        frames, error = float(sum(round(gap / typical) for gap in gaps)), 0.0
    else:
        frames = len(gaps) / (1 - lost)
        inflation = expected.loss_inflation(spec, len(gaps))
        error = expected.share_error(lost, len(gaps), inflation) / (1 - lost)
        error = math.hypot(error, math.sqrt(2) * law.sigma_s / span_s)
    within = 0.01 + Z * error
    return _relative(spec.rate_bps, 8 * FRAME_BYTES * frames / span_s, -within, within)


def gap(arrivals_ns: Sequence[int], spec: LinkSpec) -> dict[str, Verdict]:
    """How far gaps between full frames of a saturated clean link are from a frame's time, as its share."""
    stamps = sorted(arrivals_ns)[len(arrivals_ns) // 10 :]
    if len(stamps) < 100:
        return {"gap": nothing_measured(0.0, f"{len(arrivals_ns)} frames arrived")}
    frame_ns = 8e9 * FRAME_BYTES / spec.rate_bps
    parts = statistics.quantiles((abs((b - a) / frame_ns - 1) for a, b in itertools.pairwise(stamps)), n=100)
    return {
        "gap": _within(0.0, parts[89], 0.0, 0.05, "90th percentile at most 5.0%"),
        "gap_p50": Verdict(0.0, parts[49], "reported, not judged", None),
        "gap_p99": Verdict(0.0, parts[98], "reported, not judged", None),
    }


@dataclass
class Tally:
    """What became of small frames paced well below the rate; parts of one survey are added up.

    `runs` are the numbers of frames lost in a row, those at a part's edges aside.
    """

    sent: int
    arrived: int
    unique: int
    corrupted: int
    runs: list[int]

    @classmethod
    def of(cls, sent: int, sequences: Sequence[int], corrupted: int = 0) -> Tally:
        """From the numbers that arrived intact (`sequences`) of those sent (0 .. sent - 1)."""
        numbers = sorted(set(sequences))
        runs = [later - earlier - 1 for earlier, later in itertools.pairwise(numbers) if later - earlier > 1]
        return cls(sent, len(sequences) + corrupted, len(numbers), corrupted, runs)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.sent + other.sent,
            self.arrived + other.arrived,
            self.unique + other.unique,
            self.corrupted + other.corrupted,
            self.runs + other.runs,
        )

    @property
    def repeats(self) -> int:
        """Copies that arrived; both of a pair are seen for what they are only if neither was damaged."""
        intact = self.arrived - self.corrupted
        both_intact = (intact / self.arrived) ** 2 if self.arrived else 1.0
        return round((intact - self.unique) / both_intact) if intact else 0

    @property
    def lost(self) -> int:
        return self.sent - self.arrived + self.repeats


def _share(cases: int, of: int, share: float, inflation: float = 1.0) -> Verdict:
    """A share by z-test: |z| <= 2.58, and where none was asked for, none."""
    error = expected.share_error(share, max(1, of), inflation)
    gate = f"|z| <= {Z} of {of} frames" if share else f"none of {of} frames"
    if inflation != 1:
        gate += f", variance x{inflation:.1f} for bursts"
    return _within(share, cases / max(1, of), share - Z * error, share + Z * error, gate)


def loss(tally: Tally, spec: LinkSpec) -> Verdict:
    """Share lost on the air, against independent losses' error or that of the chain's mean."""
    return _share(tally.lost, tally.sent, spec.loss, expected.loss_inflation(spec, tally.sent))


def duplicate(tally: Tally, spec: LinkSpec) -> Verdict:
    """Copies, as a share of the frames that arrived."""
    return _share(tally.repeats, tally.arrived - tally.repeats, spec.duplicate)


def corrupt(tally: Tally, spec: LinkSpec) -> Verdict:
    """Damaged frames, as a share of all that arrived."""
    return _share(tally.corrupted, tally.arrived, spec.corrupt)


def burst(tally: Tally, spec: LinkSpec) -> Verdict:
    """Numbers of frames lost in a row, against the geometric law of the chain or of independent losses.

    How many there are is not judged here: independent losses go on with the probability they were seen with.

    Two tests at 99.5 % each: of how many lost frames were followed by another (binomial), and of the
    lengths in bins of at least 5 expected (chi-square, no parameter estimated).
    """
    runs, bursts, lost = tally.runs, len(tally.runs), sum(tally.runs)
    goes_on = 1 - 1 / spec.loss_burst if spec.loss_burst > 1 else lost / tally.sent
    configured = 1 / (1 - goes_on)
    if lost < 50:
        return not_tested(configured, f"{lost} frames were lost, fewer than 50")
    low, high = expected.binomial_tails(lost - bursts, lost, goes_on)
    edges = _bins(bursts, goes_on)
    gate = f"geometric: P {2 * min(low, high, 0.5):.2g} >= 0.005"
    passed = min(low, high) >= 0.0025
    if len(edges) > 2:
        distance = 0.0
        for first, last in itertools.pairwise(edges):
            share = goes_on ** (first - 1) - (0.0 if math.isinf(last) else goes_on ** (last - 1))
            seen = sum(first <= run < last for run in runs)
            distance += (seen - bursts * share) ** 2 / (bursts * share)
        limit = expected.chi_square_limit(len(edges) - 2, 0.995)
        gate += f", chi-square {distance:.1f} <= {limit:.1f} ({len(edges) - 1} bins)"
        passed = passed and distance <= limit
    return Verdict(configured, lost / bursts, gate, passed)


def _bins(bursts: int, goes_on: float) -> list[float]:
    """Edges 1, ..., infinity such that each bin expects at least 5 of `bursts` geometric lengths."""
    edges: list[float] = [1]
    longer = 1.0  # P(length >= the last edge)
    length = 1
    while True:
        length += 1
        beyond = goes_on ** (length - 1)
        if bursts * beyond < 5:
            return [*edges, math.inf]
        if bursts * (longer - beyond) >= 5:
            edges.append(length)
            longer = beyond


def queue(waits: Sequence[float], spec: LinkSpec) -> Verdict:
    """What a full queue adds (s) to the round trip of a small frame, one wait each: 8Q/R."""
    configured = 8 * expected.queue_bytes(spec) / spec.rate_bps
    slack_s = 0.05 * configured + spec.frame_time_s() + 4 * expected.delay(spec).sigma_s
    measured = statistics.median(waits)
    gate = "within 5% and a frame's time" + (" and 4 sigma of jitter" if spec.jitter_s else "")
    return _within(configured, measured, configured - slack_s, configured + slack_s, gate)


def standing_delay(waits: Sequence[float], spec: LinkSpec) -> Verdict:
    """What CoDel leaves waiting (s) under an overload of 3 %, once it has had time to take hold."""
    most_s = CODEL_MOST_S + 2 * spec.frame_time_s()
    gate = f"CoDel: at most {most_s * 1e3:.1f} ms under 3% too much"
    return _within(0.005, statistics.median(waits), 0.0, most_s, gate)


def goodput(measured_bps: float, spec: LinkSpec) -> Verdict:
    """TCP payload a second against rate * 1448 / 1514.

    What waits behind a lost segment is handed over at once: a hole at either end shifts up to 1 %.
    """
    return _relative(spec.tcp_goodput_bps, measured_bps, -0.03, 0.01)


def outages(gaps_s: Sequence[float], interval_s: float, asked: Outages) -> dict[str, Verdict]:
    """Mean time down (s) and share of it, from the gaps between arrivals of frames sent every interval.

    A gap is an outage if it is longer than a threshold; as times down are exponential, what they last
    beyond it has the same mean, and exp(-threshold / mean) of them are that long. An up time counts on
    between two such gaps, short outages in it included.
    """
    threshold_s = outage_threshold_s(interval_s)
    beyond = [gap - threshold_s for gap in gaps_s if gap > threshold_s]
    share = asked.mean_down_s / (asked.mean_up_s + asked.mean_down_s)
    if len(beyond) < 10:
        why = f"{len(beyond)} outages in {sum(gaps_s):.0f} s"
        return {"outage": nothing_measured(asked.mean_down_s, why), "down": nothing_measured(share, why)}
    mean_s = statistics.fmean(beyond)
    # A gap has half an interval before the outage in it; it does not matter to the excess, but to the share.
    missed = math.exp(max(0.0, threshold_s - interval_s / 2) / mean_s)
    down_s = len(beyond) * missed * mean_s
    within = Z / math.sqrt(len(beyond))
    spread = Z * share * (1 - share) * math.sqrt(2 / len(beyond))
    gate = f"{len(beyond)} outages: within {spread / share:.0%}"
    return {
        "outage": _relative(asked.mean_down_s, mean_s, -within, within),
        "down": _within(share, down_s / sum(gaps_s), share - spread, share + spread, gate),
    }


def outage_threshold_s(interval_s: float) -> float:
    """A gap longer than that between frames sent every `interval_s` is an outage's, not the machine's."""
    return max(4 * interval_s, 0.02)


def trace_rate(arrivals_ns: Sequence[int], spec: LinkSpec) -> Verdict:
    """Bytes delivered over whole periods of a trace, as a rate, wherever in the trace the first one lay."""
    assert spec.trace is not None
    stamps, period_ns = sorted(arrivals_ns), spec.trace.deliveries_ms[-1] * 1_000_000
    periods = (stamps[-1] - stamps[0]) // period_ns if stamps else 0
    if not periods:
        return nothing_measured(spec.rate_bps, f"{len(stamps)} frames in less than a period")
    # Half a millisecond early, lest a frame of the next period that came a little soon is counted, too.
    end_ns = stamps[0] + periods * period_ns - 500_000
    count = sum(stamp < end_ns for stamp in stamps)
    expected_frames, lost = periods * len(spec.trace.deliveries_ms), expected.missing(spec)
    error = expected.share_error(lost, expected_frames, expected.loss_inflation(spec, expected_frames))
    within = 0.01 + Z * error / (1 - lost)
    measured = 8e9 * FRAME_BYTES * count / (1 - lost) / (periods * period_ns)
    return _relative(spec.rate_bps, measured, -within, within)


def trace_timing(arrivals_ns: Sequence[int], spec: LinkSpec) -> Verdict:
    """How far (s) arrivals are from the trace's instants, once the two are laid on each other as well as
    can be: where the trace began and the delay are not known."""
    assert spec.trace is not None
    instants, stamps = spec.trace.deliveries_ms, sorted(arrivals_ns)[len(arrivals_ns) // 100 :]
    if len(stamps) < 100:
        return nothing_measured(0.0, f"{len(arrivals_ns)} frames arrived")
    some = range(0, len(stamps), max(1, len(stamps) // 40))
    start = min(range(len(instants)), key=lambda shift: _spread_ms(stamps, instants, some, shift))
    offsets = [
        (stamp - stamps[0]) * 1e-9 - _instant_ms(instants, start + index) * 1e-3
        for index, stamp in enumerate(stamps)
    ]
    middle = statistics.median(offsets)
    away = statistics.quantiles((abs(offset - middle) for offset in offsets), n=10)[8]
    return _within(0.0, away, 0.0, LATE_S, f"90th percentile at most {LATE_S * 1e3:.1f} ms")


def _instant_ms(instants: Sequence[int], index: int) -> int:
    """The trace's instant number `index`, counted on beyond its period."""
    periods, number = divmod(index, len(instants))
    return periods * instants[-1] + instants[number]


def _spread_ms(stamps: Sequence[int], instants: Sequence[int], some: range, shift: int) -> float:
    """How unequal the offsets are when the trace is laid on with its instant `shift` first."""
    offsets = [stamps[index] * 1e-6 - _instant_ms(instants, shift + index) for index in some]
    return max(offsets) - min(offsets)
