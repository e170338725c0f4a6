"""What a LinkSpec lets one expect of a sample: moments, sampling errors and critical values, pure arithmetic.

Formulas: Hazen and Pritsker, "Formulas for the variance of the sample mean in finite state Markov
processes", J. Stat. Comput. Simul. 11 (1980); Wilson and Hilferty, "The distribution of chi-square", PNAS 17
(1931); the loss chain is Gilbert's, "Capacity of a burst-noise channel", Bell Syst. Tech. J. 39 (1960).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from emulation.link import FRAME_BYTES, LinkSpec, Outages, Trace

Z = 2.58
"""99 % of a normal distribution lies within."""
CODEL_TARGET_S = 5e-3  # RFC 8289, section 4.4
_ALL_OF_IT, _GRID = 4, 4000  # Standard deviations; values that stand for a distribution.


@dataclass(frozen=True)
class Delay:
    """What the delay line does to a lone frame: mean, standard deviation and range in seconds, kurtosis."""

    mean_s: float
    sigma_s: float
    kurtosis: float
    range_s: float


@lru_cache(maxsize=256)
def delay(spec: LinkSpec) -> Delay:
    """Delay plus jitter, which no frame can make less than 0."""
    if not spec.jitter_s:
        return Delay(spec.delay_s, 0.0, 3.0, 0.0)
    if spec.jitter_table is None and spec.delay_s >= _ALL_OF_IT * spec.jitter_s:
        return Delay(spec.delay_s, spec.jitter_s, 3.0, 2 * _ALL_OF_IT * spec.jitter_s)
    quantiles = spec.jitter_table or [NormalDist().inv_cdf((i + 0.5) / _GRID) for i in range(_GRID)]
    values = [max(0.0, spec.delay_s + spec.jitter_s * quantile) for quantile in quantiles]
    mean = math.fsum(values) / len(values)
    squares = [(value - mean) ** 2 for value in values]
    variance = math.fsum(squares) / len(squares)
    fourth = math.fsum(square**2 for square in squares) / len(squares)
    kurtosis = fourth / variance**2 if variance else 3.0
    return Delay(mean, math.sqrt(variance), kurtosis, max(values) - min(values))


def jitter_error(kurtosis: float, count: int) -> float:
    """Relative standard error of a standard deviation estimated from `count` values: sqrt((k - 1) / 4n)."""
    return math.sqrt((kurtosis - 1) / (4 * count))


def missing(spec: LinkSpec) -> float:
    """Share of the frames sent that a socket never sees: lost on the air, or damaged and dropped for it."""
    return 1 - (1 - spec.loss) * (1 - spec.corrupt)


def loss_inflation(spec: LinkSpec, frames: int) -> float:
    """How many times the variance of the share lost is that of independent losses, p (1 - p) / n.

    The chain goes bad with probability q = r p / (1 - p) and good again with r = 1 / burst; losses k frames
    apart have the covariance p (1 - p) l^k with l = 1 - q - r. Summed over n frames:
    (1 + l) / (1 - l) - 2 l (1 - l^n) / (n (1 - l)^2).
    """
    if spec.loss_burst <= 1 or not spec.loss:
        return 1.0
    good_again = 1 / spec.loss_burst
    memory = 1 - good_again - good_again * spec.loss / (1 - spec.loss)
    edge = 2 * memory * (1 - memory**frames) / (frames * (1 - memory) ** 2)
    return (1 + memory) / (1 - memory) - edge


def share_error(share: float, frames: int, inflation: float = 1.0) -> float:
    """Standard error of a share estimated from `frames` frames."""
    return math.sqrt(share * (1 - share) * inflation / frames)


def frames_to_see(spec: LinkSpec) -> int:
    """Frames after which each share asked for has at least 100 independent cases (n p >= 100); 0: none asked.

    Losses in bursts are as good as their number over `loss_inflation`.
    """
    bursty = 100 * max(1.0, loss_inflation(spec, 1_000_000))
    wanted = ((spec.loss, bursty), (spec.duplicate, 100), (spec.corrupt, 100))
    return max((math.ceil(cases / share) for share, cases in wanted if share), default=0)


def mean_outage_below_s(outages: Outages, longest_s: float) -> float:
    """E[x; x <= longest] of an exponential time down x: what outages that short come to, per outage."""
    relative = longest_s / outages.mean_down_s
    return outages.mean_down_s * (1 - (1 + relative) * math.exp(-relative))


def chi_square_limit(degrees: int, confidence: float) -> float:
    """Wilson and Hilferty's approximation to the chi-square quantile, good to 1 %."""
    spread = 2 / (9 * degrees)
    return float(degrees * (1 - spread + NormalDist().inv_cdf(confidence) * math.sqrt(spread)) ** 3)


def binomial_tails(count: int, of: int, probability: float) -> tuple[float, float]:
    """P(X <= count) and P(X >= count) for X binomial."""
    if probability <= 0 or probability >= 1:
        certain = 0 if probability <= 0 else of
        return float(count >= certain), float(count <= certain)
    log_odds, total = math.log(probability / (1 - probability)), 0.0
    log_term = of * math.log1p(-probability)
    exactly = 0.0
    for k in range(count + 1):
        if k:
            log_term += math.log((of - k + 1) / k) + log_odds
        exactly = math.exp(log_term)
        total += exactly
    return min(1.0, total), max(0.0, 1 - total + exactly)


def saturating_bps(spec: LinkSpec) -> float:
    """110 % of the rate; with a trace, of the least constant rate at which its queue never runs dry.

    Infinite where no rate would do: the queue holds less than the trace lets go at once.
    """
    if spec.trace is None:
        return 1.1 * spec.rate_bps
    period = spec.trace.deliveries_ms[-1]
    instants = [*spec.trace.deliveries_ms, *(period + at for at in spec.trace.deliveries_ms)]
    taken = [(at, 8.0 * FRAME_BYTES * len(list(group))) for at, group in itertools.groupby(instants)]
    held = 8.0 * queue_bytes(spec)
    if max(bits for _, bits in taken) > held:
        return math.inf
    low, high = spec.rate_bps, spec.rate_bps * period  # The most: all of it in one millisecond.
    while high / low > 1.01:
        rate = math.sqrt(low * high)
        backlog, before = held, 0
        for at, bits in taken:
            backlog = min(held, backlog + rate * (at - before) * 1e-3) - bits
            before = at
            if backlog < 0:
                low = rate
                break
        else:
            high = rate
    return 1.1 * high


def longest_still_s(trace: Trace) -> float:
    """The longest time between two deliveries of a trace, at least a millisecond."""
    instants = (0, *trace.deliveries_ms)
    return max(1, *(later - earlier for earlier, later in itertools.pairwise(instants))) * 1e-3


def queue_bytes(spec: LinkSpec) -> int:
    """What the queue holds of full frames' bytes."""
    return (
        spec.queue_bytes
        if spec.queue_frames is None
        else min(spec.queue_bytes, spec.queue_frames * FRAME_BYTES)
    )
