"""Gates as pure functions: a true sample passes as often as they say, an off one fails."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulation import expected, gates
from emulation.gates import Tally, Verdict
from emulation.link import FRAME_BYTES, LinkSpec, Outages, Trace

SEEDS = st.integers(0, 2**32 - 1)
CLEAN = LinkSpec(10e6, 0.02)


def share_passed(judge: Callable[[random.Random], Verdict], trials: int = 300) -> float:
    passed = [judge(random.Random(seed)).passed for seed in range(trials)]
    assert None not in passed
    return sum(map(bool, passed)) / trials


def chain(rng: random.Random, frames: int, loss: float, burst: float) -> list[int]:
    """Numbers that arrive of `frames` sent through Gilbert's chain; burst 1 is independent loss."""
    good_again = 1 / burst
    goes_bad = good_again * loss / (1 - loss)
    bad, arrived = rng.random() < loss, []
    for number in range(frames):
        if not bad:
            arrived.append(number)
        draw = rng.random()
        bad = draw < loss if burst == 1 else draw >= good_again if bad else draw < goes_bad
    return arrived


def lossy(loss: float, burst: float = 1.0) -> LinkSpec:
    return replace(CLEAN, loss=loss, loss_burst=burst)


# What a spec lets one expect


@given(st.floats(0.005, 0.3), st.floats(1.5, 12), st.integers(200, 800))
def test_the_variance_of_a_bursty_mean_is_the_sum_of_its_covariances(p: float, burst: float, n: int) -> None:
    memory = 1 - 1 / burst - p / burst / (1 - p)
    total = sum(memory ** abs(i) * (n - abs(i)) for i in range(-n + 1, n)) / n
    assert expected.loss_inflation(lossy(p, burst), n) == pytest.approx(total, rel=1e-9)


def test_the_variance_of_a_bursty_mean_is_what_simulation_gives() -> None:
    spec, frames = lossy(0.05, 6), 3000
    means = [1 - len(chain(random.Random(seed), frames, 0.05, 6)) / frames for seed in range(600)]
    mean = math.fsum(means) / len(means)
    deviation = math.sqrt(math.fsum((m - mean) ** 2 for m in means) / len(means))
    error = expected.share_error(0.05, frames, expected.loss_inflation(spec, frames))
    assert deviation == pytest.approx(error, rel=0.1)  # 600 deviations are known to 2.9 %.


@given(st.integers(1, 60), st.floats(0.01, 0.99), st.data())
def test_binomial_tails_are_sums_of_the_law(of: int, p: float, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, of))
    law = [math.comb(of, k) * p**k * (1 - p) ** (of - k) for k in range(of + 1)]
    low, high = expected.binomial_tails(count, of, p)
    assert low == pytest.approx(sum(law[: count + 1]), abs=1e-9)
    assert high == pytest.approx(sum(law[count:]), abs=1e-9)


@pytest.mark.parametrize(
    ("degrees", "confidence", "quantile"),
    [(1, 0.995, 7.879), (2, 0.99, 9.210), (5, 0.995, 16.750), (10, 0.995, 25.188), (30, 0.99, 50.892)],
)
def test_chi_square_limits_are_the_tables(degrees: int, confidence: float, quantile: float) -> None:
    assert expected.chi_square_limit(degrees, confidence) == pytest.approx(quantile, rel=0.015)


def test_a_delay_cannot_be_below_zero_and_its_moments_say_so() -> None:
    whole = expected.delay(LinkSpec(1e6, 0.1, 0.01))
    assert (whole.mean_s, whole.sigma_s) == pytest.approx((0.1, 0.01), rel=1e-3)
    assert whole.kurtosis == pytest.approx(3, rel=0.01)
    cut = expected.delay(LinkSpec(1e6, 0.01, 0.01))  # E max(0, 1 + N) = Phi(1) + phi(1), in units of 10 ms
    assert cut.mean_s == pytest.approx(0.01 * 1.08332, rel=1e-3)
    assert cut.sigma_s < 0.009


def test_a_jitter_table_brings_its_own_moments() -> None:
    law = expected.delay(LinkSpec(1e6, 0.1, 0.01, jitter_table=(-1.0, -1.0, 0.0, 2.0)))
    assert law.mean_s == pytest.approx(0.1)
    assert law.sigma_s == pytest.approx(0.01 * math.sqrt(1.5))
    assert law.range_s == pytest.approx(0.03)


@given(SEEDS, st.integers(1, 40))
def test_a_trace_s_queue_never_runs_dry_at_its_saturating_rate(seed: int, queue_frames: int) -> None:
    rng = random.Random(seed)
    instants = tuple(sorted(rng.randrange(1, 400) for _ in range(rng.randrange(5, 80))))
    spec = LinkSpec(1, queue_bytes=queue_frames * FRAME_BYTES, trace=Trace("t", instants))
    assert spec.trace is not None
    spec = replace(spec, rate_bps=spec.trace.mean_rate_bps)
    rate_bps = expected.saturating_bps(spec)
    fullest = max(instants.count(at) for at in instants)
    assert math.isinf(rate_bps) == (fullest > queue_frames)
    if math.isfinite(rate_bps):
        held = backlog = 8.0 * spec.queue_bytes
        before = 0
        for at in sorted({*instants, *(instants[-1] + at for at in instants)}):
            backlog = min(held, backlog + rate_bps * (at - before) * 1e-3)
            backlog -= 8 * FRAME_BYTES * (instants.count(at) + instants.count(at - instants[-1]))
            before = at
            assert backlog >= 0


# Delay, jitter, order


def test_the_delay_gate_is_design_md_s_and_widens_with_jitter_only() -> None:
    configured = 0.02 + CLEAN.frame_time_s(60)
    right = gates.delay([configured + 0.0002] * 20, (CLEAN,), 60)
    assert (right.configured, right.gate, right.passed) == (configured, "-0.1/+0.5 ms", True)
    assert not gates.delay([configured - 0.0002] * 20, (CLEAN,), 60).passed
    assert not gates.delay([configured + 0.0006] * 20, (CLEAN,), 60).passed
    jittery = replace(CLEAN, jitter_s=0.001)
    assert gates.delay([configured + 0.0006] * 20, (jittery,), 60).passed
    assert not gates.delay([configured + 0.0013] * 20, (jittery,), 60).passed


def test_true_jitter_passes_and_a_sigma_off_by_a_third_does_not() -> None:
    spec = LinkSpec(10e6, 0.05, 0.005)

    def sample(rng: random.Random, sigma_s: float) -> list[float]:
        return [rng.gauss(0.05, sigma_s) for _ in range(400)]

    assert share_passed(lambda rng: gates.jitter(sample(rng, 0.005), spec)) > 0.98
    assert share_passed(lambda rng: gates.jitter(sample(rng, 0.0065), spec)) == 0
    assert share_passed(lambda rng: gates.jitter(sample(rng, 0.0035), spec)) == 0
    assert share_passed(lambda rng: gates.delay(sample(rng, 0.005), (spec,), 60)) > 0.97


@given(st.permutations(range(8)))
def test_any_frame_that_was_overtaken_is_seen(order: Sequence[int]) -> None:
    assert gates.reordering(order).passed == (list(order) == sorted(order))


def test_a_copy_that_comes_late_is_no_reordering() -> None:
    assert gates.reordering([0, 1, 2, 1, 3]).passed


# Rate and gaps


def saturated(rng: random.Random, rate_bps: float, frames: int = 2000, loss: float = 0.0) -> list[int]:
    """Arrival times (ns) of full frames out of a busy link, with 20 us of the machine's noise."""
    frame_ns = 8e9 * FRAME_BYTES / rate_bps
    return [
        round(number * frame_ns + rng.uniform(0, 20e3)) for number in range(frames) if rng.random() >= loss
    ]


@given(SEEDS, st.floats(1e6, 100e6), st.sampled_from([0.0, 0.01, 0.05]))
def test_a_rate_off_by_3_percent_is_a_miss_and_the_right_one_is_not(seed: int, bps: float, p: float) -> None:
    spec = LinkSpec(bps, loss=p)
    for factor, passed in ((1.0, True), (0.97, False), (1.03, False)):
        verdict = gates.rate(saturated(random.Random(seed), bps * factor, loss=p), spec)
        assert verdict.passed is passed, verdict
        assert verdict.bounds == pytest.approx((0.99 * bps, 1.01 * bps))


def test_outages_are_left_out_of_a_rate() -> None:
    stamps = saturated(random.Random(1), 10e6)
    cut = [stamp + 700_000_000 * (number > 900) for number, stamp in enumerate(stamps)]
    assert not gates.rate(cut, CLEAN).passed
    assert gates.rate(cut, replace(CLEAN, outages=Outages(5, 0.5))).passed


def test_outages_too_short_to_be_seen_are_allowed_for() -> None:
    asked, rng = Outages(0.3, 0.01), random.Random(2)
    at, goes_down, stamps = 0.0, rng.expovariate(1 / 0.3), []
    for _ in range(100_000):
        at += 8 * FRAME_BYTES / 10e6
        while at > goes_down:
            at += rng.expovariate(1 / 0.01)
            goes_down = at + rng.expovariate(1 / 0.3)
        stamps.append(round(at * 1e9))
    measured = gates.rate(stamps, replace(CLEAN, outages=asked)).measured
    assert measured == pytest.approx(10e6, rel=0.002)


def test_where_jitter_hides_what_was_lost_it_is_counted_by_its_share() -> None:
    spec = LinkSpec(10e6, 0.02, jitter_s=0.0005, loss=0.05)
    stamps = saturated(random.Random(4), 10e6, 20_000, loss=0.05)
    assert gates.rate(stamps, spec).measured == pytest.approx(10e6, rel=0.006)
    assert not gates.rate(stamps, replace(spec, loss=0.02)).passed


def test_gaps_are_judged_by_their_90th_percentile() -> None:
    smooth = gates.gap(saturated(random.Random(1), 1e6), LinkSpec(1e6))
    assert smooth["gap"].passed and smooth["gap_p99"].measured is not None
    frame_ns = 8e9 * FRAME_BYTES / 1e6
    in_pairs = [round((number - 0.2 * (number % 2)) * frame_ns) for number in range(1000)]
    assert gates.gap(in_pairs, LinkSpec(1e6))["gap"].passed is False
    one_in_eight = [round((number + 0.2 * (number % 16 == 0)) * frame_ns) for number in range(1000)]
    found = gates.gap(one_in_eight, LinkSpec(1e6))
    assert found["gap_p50"].measured == pytest.approx(0, abs=1e-6) and found["gap"].passed is False


# Loss, bursts, copies, damage


@pytest.mark.parametrize("burst", [1.0, 4.0])
def test_a_true_loss_passes_99_times_in_100_and_twice_of_it_fails(burst: float) -> None:
    spec, frames = lossy(0.02, burst), int(5000 * (2 * burst - 1))

    def judge(loss: float, burst: float) -> Callable[[random.Random], Verdict]:
        return lambda rng: gates.loss(Tally.of(frames, chain(rng, frames, loss, burst)), spec)

    assert share_passed(judge(0.02, burst), 150) > 0.95
    assert share_passed(judge(0.04, burst), 40) < 0.05


def test_where_no_loss_was_asked_one_lost_frame_is_a_miss() -> None:
    assert gates.loss(Tally.of(100, range(100)), CLEAN).passed
    assert not gates.loss(Tally.of(100, range(1, 100)), CLEAN).passed


def test_bursts_are_told_from_independent_losses_both_ways() -> None:
    frames = 40_000

    def judge(burst: float, asked: LinkSpec) -> Callable[[random.Random], Verdict]:
        return lambda rng: gates.burst(Tally.of(frames, chain(rng, frames, 0.02, burst)), asked)

    assert share_passed(judge(1, lossy(0.02)), 100) > 0.95
    assert share_passed(judge(3, lossy(0.02, 3)), 100) > 0.95
    assert share_passed(judge(1.3, lossy(0.02)), 30) == 0
    assert share_passed(judge(1, lossy(0.02, 3)), 30) == 0
    assert share_passed(judge(4, lossy(0.02, 3)), 30) < 0.2


def test_a_hundred_losses_are_enough_to_tell_bursts_of_four() -> None:
    def judge(burst: float) -> Callable[[random.Random], Verdict]:
        return lambda rng: gates.burst(Tally.of(2500, chain(rng, 2500, 0.05, burst)), lossy(0.05))

    assert share_passed(judge(4), 50) == 0
    assert share_passed(judge(1), 100) > 0.95


def test_bursts_of_the_right_mean_and_another_law_are_a_miss() -> None:
    always_three = Tally(45_000, 44_100, 44_100, 0, [3] * 300)
    verdict = gates.burst(always_three, lossy(0.02, 3))
    assert (verdict.measured, verdict.passed) == (3, False)


def test_too_few_losses_are_not_judged() -> None:
    verdict = gates.burst(Tally(1000, 980, 980, 0, [1] * 20), lossy(0.02))
    assert (verdict.passed, verdict.gate) == (None, "not tested: 20 frames were lost, fewer than 50")


def test_copies_and_damage_are_counted_apart() -> None:
    rng, sent = random.Random(5), 200_000
    sequences, corrupted = [], 0
    for number in range(sent):
        if rng.random() < 0.05:
            continue  # lost
        for _ in range(1 + (rng.random() < 0.1)):
            if rng.random() < 0.04:
                corrupted += 1
            else:
                sequences.append(number)
    tally = Tally.of(sent, sequences, corrupted)
    assert tally.repeats / (tally.arrived - tally.repeats) == pytest.approx(0.1, abs=0.003)
    assert tally.lost / sent == pytest.approx(0.05, abs=0.002)
    spec = replace(CLEAN, loss=0.05, duplicate=0.1, corrupt=0.04)
    assert not gates.duplicate(tally, replace(spec, duplicate=0.2)).passed
    assert not gates.corrupt(tally, replace(spec, corrupt=0.02)).passed


def test_true_shares_of_copies_and_damage_pass() -> None:
    spec = replace(CLEAN, duplicate=0.1, corrupt=0.04)

    def tally(rng: random.Random) -> Tally:
        arrived = 3000 + sum(rng.random() < 0.1 for _ in range(3000))
        damaged = sum(rng.random() < 0.04 for _ in range(arrived))
        return Tally(3000, arrived, 3000 - damaged, damaged, [])

    assert share_passed(lambda rng: gates.corrupt(tally(rng), spec)) > 0.96
    without_damage = Tally(3000, 3300, 3000, 0, [])
    assert gates.duplicate(without_damage, spec).passed


def test_parts_of_a_survey_add_up() -> None:
    both = Tally.of(10, [0, 1, 3, 3, 9]) + Tally.of(5, [0, 4], corrupted=1)
    assert (both.sent, both.arrived, both.unique, both.corrupted, both.runs) == (15, 8, 6, 1, [1, 5, 3])


# Queues and TCP


def test_a_queue_is_judged_by_bytes_or_by_frames_whichever_is_less() -> None:
    spec = replace(CLEAN, queue_bytes=100 * FRAME_BYTES)
    full_s = 8 * 100 * FRAME_BYTES / 10e6
    assert gates.queue([full_s] * 20, spec).passed
    assert not gates.queue([0.9 * full_s] * 20, spec).passed
    assert gates.queue([full_s / 5] * 20, replace(spec, queue_frames=20)).passed


def test_codel_s_standing_delay_is_short() -> None:
    spec = replace(CLEAN, aqm="codel")
    assert gates.standing_delay([0.007] * 50, spec).passed
    assert not gates.standing_delay([0.04] * 50, spec).passed


def test_goodput_may_be_3_percent_short() -> None:
    assert gates.goodput(0.975 * CLEAN.tcp_goodput_bps, CLEAN).passed
    assert not gates.goodput(0.965 * CLEAN.tcp_goodput_bps, CLEAN).passed


# Outages and traces


def train(rng: random.Random, asked: Outages, interval_s: float, total: int) -> list[float]:
    """Gaps between arrivals of frames sent every interval across a link with exponential outages."""
    at, gaps, since = 0.0, [], 0.0
    for _ in range(total):
        at += rng.expovariate(1 / asked.mean_up_s)
        gaps += [interval_s] * int((at - since) / interval_s)
        last = since + interval_s * int((at - since) / interval_s)
        at += rng.expovariate(1 / asked.mean_down_s)
        gaps.append(at - last)
        since = at
    return gaps


def test_outages_are_found_by_share_and_by_mean() -> None:
    asked = Outages(0.5, 0.1)

    def judge(metric: str, true: Outages) -> Callable[[random.Random], Verdict]:
        return lambda rng: gates.outages(train(rng, true, 0.004, 100), 0.004, asked)[metric]

    assert share_passed(judge("outage", asked), 200) > 0.93
    assert share_passed(judge("down", asked), 200) > 0.93
    assert share_passed(judge("outage", Outages(0.5, 0.2)), 200) < 0.02
    assert share_passed(judge("down", Outages(1.5, 0.1)), 200) < 0.02


TRACE = Trace("uneven", (3, 4, 4, 9, 20, 21, 22, 40, 41, 55, 80, 80, 80, 81, 100))


def delivered(periods: int, phase: int = 7, skew: float = 1.0, noise_ns: int = 50_000) -> list[int]:
    rng, size = random.Random(3), len(TRACE.deliveries_ms)
    numbers = range(phase, phase + periods * size + 3)
    instants = [(n // size * 100 + TRACE.deliveries_ms[n % size]) * 1e6 * skew for n in numbers]
    return [round(at) + rng.randrange(noise_ns) for at in instants]


def test_a_trace_is_judged_over_whole_periods_and_by_its_instants() -> None:
    spec = LinkSpec(TRACE.mean_rate_bps, trace=TRACE)
    for phase in range(len(TRACE.deliveries_ms)):
        stamps = delivered(20, phase)
        assert gates.trace_rate(stamps, spec).passed, phase
        assert gates.trace_timing(stamps, spec).passed, phase
    assert not gates.trace_rate([s for n, s in enumerate(delivered(20)) if n % 40], spec).passed
    assert not gates.trace_timing(delivered(20, skew=1.001), spec).passed
    assert not gates.trace_timing(delivered(20, noise_ns=3_000_000), spec).passed
    assert not gates.trace_rate(delivered(0), spec).passed
