"""A row a setting: means over seeds with their intervals, and what the three protocols say.

The protocols are those of EdgeFlowerTune (arXiv 2605.08636): what a target loss costs, which loss a budget
of bytes buys, and what loss of packets does.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experiments.bench.compression_curves import Curve
from experiments.bench.compression_settings import BASELINE
from experiments.estimate import Estimate, estimate

PROGRESS = 0.75
"""The target is where the baseline has made this share of all its progress, seed by seed."""
BUDGET = 0.4
"""The budget is this share of the bytes that the baseline spends on all its rounds, seed by seed."""


@dataclass(frozen=True)
class Lossy:
    """The trial on lossy links beside the clean one of the same seed, which may have gone on longer.

    `identical` whether the global adapters of all its rounds are, bit by bit; the losses are held out, of
    both after its last round; `latency_s` its mean round's, and how many times that of the clean one's first.
    """

    rounds: int
    identical: bool
    loss: float
    clean_loss: float
    latency_s: float
    slowdown: float


@dataclass(frozen=True)
class Row:
    """One setting, over its valid seeds; bytes on the wire of the mean device, of the mean round where not
    said otherwise. The ratios are to the baseline with the same seed: `loss_ratio` its final loss over the
    baseline's, `up_ratio` and `speedup` how many times fewer bytes up and less time a round takes."""

    setting: str
    seeds: list[int]
    missing: list[int]
    """Seeds without a valid trial."""
    up_bytes: Estimate | None
    down_bytes: Estimate | None
    latency_s: Estimate | None
    final_loss: Estimate | None
    loss_ratio: Estimate | None
    up_ratio: Estimate | None
    speedup: Estimate | None
    reached: int
    """Seeds that reach the target; its costs are over these."""
    target_rounds: Estimate | None
    target_time_s: Estimate | None
    target_bytes: Estimate | None
    budget_rounds: Estimate | None
    budget_loss: Estimate | None
    lossy: Lossy | None


def rows_of(
    settings: Sequence[str],
    seeds: Sequence[int],
    curves: Sequence[Curve],
    same_adapters: Mapping[str, bool],
) -> list[Row]:
    """A row for each of `settings`; `same_adapters` whether a setting's lossy trial made the clean one's."""
    clean = {(curve.setting, curve.seed): curve for curve in curves if not curve.packet_loss}
    lossy = {curve.setting: curve for curve in curves if curve.packet_loss}
    baselines = {seed: curve for (setting, seed), curve in clean.items() if setting == BASELINE}
    rows = []
    for setting in settings:
        own = {seed: clean[setting, seed] for seed in seeds if (setting, seed) in clean}
        rows.append(_row(setting, seeds, own, baselines, _lossy(lossy.get(setting), own, same_adapters)))
    return rows


def target_loss(baseline: Curve) -> float:
    """Where the baseline has made PROGRESS of its progress."""
    before = baseline.losses[0]
    return before - PROGRESS * (before - baseline.final_loss)


def budget_bytes(baseline: Curve) -> float:
    return BUDGET * baseline.bytes_at(baseline.rounds)


def _row(
    setting: str,
    seeds: Sequence[int],
    own: Mapping[int, Curve],
    baselines: Mapping[int, Curve],
    lossy: Lossy | None,
) -> Row:
    paired = [(curve, baselines[seed]) for seed, curve in own.items() if seed in baselines]
    costs = [
        (curve, number)
        for curve, baseline in paired
        if (number := curve.reaches(target_loss(baseline))) is not None
    ]
    bought = [(curve, curve.within(budget_bytes(baseline))) for curve, baseline in paired]

    def over_own(value: Callable[[Curve], float]) -> Estimate | None:
        return estimate(map(value, own.values()))

    def against(ratio: Callable[[Curve, Curve], float]) -> Estimate | None:
        return estimate(ratio(curve, baseline) for curve, baseline in paired)

    return Row(
        setting=setting,
        seeds=list(own),
        missing=[seed for seed in seeds if seed not in own],
        up_bytes=over_own(lambda curve: curve.up_bytes[-1] / curve.rounds),
        down_bytes=over_own(lambda curve: curve.down_bytes[-1] / curve.rounds),
        latency_s=over_own(lambda curve: curve.latency_s),
        final_loss=over_own(lambda curve: curve.final_loss),
        loss_ratio=against(lambda curve, baseline: curve.final_loss / baseline.final_loss),
        up_ratio=against(lambda curve, baseline: baseline.up_bytes[-1] / curve.up_bytes[-1]),
        speedup=against(lambda curve, baseline: baseline.latency_s / curve.latency_s),
        reached=len(costs),
        target_rounds=estimate(float(number) for _, number in costs),
        target_time_s=estimate(curve.times_s[number] for curve, number in costs),
        target_bytes=estimate(curve.bytes_at(number) for curve, number in costs),
        budget_rounds=estimate(float(number) for _, number in bought),
        budget_loss=estimate(curve.losses[number] for curve, number in bought),
        lossy=lossy,
    )


def _lossy(
    curve: Curve | None, clean: Mapping[int, Curve], same_adapters: Mapping[str, bool]
) -> Lossy | None:
    if curve is None or curve.seed not in clean:
        return None
    beside = clean[curve.seed]
    return Lossy(
        rounds=curve.rounds,
        identical=same_adapters[curve.setting],
        loss=curve.final_loss,
        clean_loss=beside.losses[curve.rounds],
        latency_s=curve.latency_s,
        slowdown=curve.latency_s / statistics.fmean(beside.latencies_s[: curve.rounds]),
    )


@dataclass(frozen=True)
class Claim:
    """Whether a setting has the baseline's final loss within LOSS_WITHIN, at UP_TARGET times fewer bytes up
    and SPEED_TARGET times faster rounds: `holds` by the means, `surely` by the ends of the intervals too."""

    setting: str
    holds: bool
    surely: bool


LOSS_WITHIN, UP_TARGET, SPEED_TARGET = 0.01, 8.0, 5.0
_LEAST_SEEDS = 3


def claims(rows: Sequence[Row]) -> list[Claim]:
    """Of every setting but the baseline; one with fewer than three seeds claims nothing."""
    found = []
    for row in rows:
        loss, up, speed = row.loss_ratio, row.up_ratio, row.speedup
        if row.setting == BASELINE:
            continue
        if loss is None or up is None or speed is None or loss.n < _LEAST_SEEDS:
            found.append(Claim(row.setting, False, False))
            continue
        most = 1 + LOSS_WITHIN
        holds = loss.mean <= most and up.mean >= UP_TARGET and speed.mean >= SPEED_TARGET
        surely = holds and loss.high <= most and up.low >= UP_TARGET and speed.low >= SPEED_TARGET
        found.append(Claim(row.setting, holds, surely))
    return found
