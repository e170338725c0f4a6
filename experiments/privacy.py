"""What a run's differential privacy comes to: epsilon after each round, and for whom it holds.

**Whose privacy.** A device's: all of its data at once (client level; McMahan et al., arXiv 1710.06963).
Neighbouring runs differ in one device whose updates are zero in one of them, as if it owned nothing, and
which takes part and adds its noise in both ("zero-out", Kairouz et al., arXiv 2103.00039, definition 1.1).
Who takes part in which round is public and must not depend on the data. One device then moves a round's sum
by clip_norm at most, whoever else drops out: every device counts alike, and the divisor, the number of
updates, is public. To hide what data a device has, rather than whether it has any, takes twice the noise for
the same epsilon.

**From whom.** Noise of z C sqrt(m/n) is in the sum of m updates, of which each has z C / sqrt(n):

- `epsilon` holds against who sees every round's sum, and so every global adapter, and knows nobody's noise:
  whoever gets the model; the server too, where secure aggregation lets it see sums only. Whoever colludes
  with k devices can subtract their noise and is left with that of m - k. A device that takes part is one of
  them.
- `epsilon_single_update` holds against who sees each noisy update by itself: this run's server without
  secure aggregation, and whoever listens on a link. It is larger, about sqrt(n) times where it is small, for
  there is nobody else's noise in an update. It counts every round a device was asked in: what came too late
  was seen too.

**Codecs.** Whatever is made of one noisy update, or of the sum of noisy updates, is post-processing. A codec
that loses something is neither for the sum: it adds up what codecs made of the updates, one by one, and of
such a sum nobody has shown that the others' noise hides as much as before (which is why there are discrete
mechanisms: Agarwal et al., arXiv 1805.10559; Kairouz et al., arXiv 2102.06387). What holds is the epsilon of
a single update, and that is what `epsilon` is then. Rounding to float32 counts as nothing lost, as floating
point does everywhere here; and one grid for all updates loses nothing of it, where it is fine and wide enough
(experiments/grid_noise.py).

**Over rounds.** Rounds in which a device's update was summed compose, others cost it nothing; the device
with most of them decides. Gaussian mechanisms of noise multipliers z_1, z_2, ... are together one with 1/z^2
= sum 1/z_r^2, also where each depends on the outcomes before it (Dong, Roth and Su, arXiv 1905.02383,
corollary 3.3), and its epsilon at a delta is exact (Balle and Wang, arXiv 1805.06530), by Google's
dp-accounting.

**No amplification by sampling** is claimed, whatever the cohort: it takes a sample that who looks on does
not know, and the server has drawn it. What a smaller cohort saves is that devices take part in fewer rounds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pandas as pd

from experiments.config import Experiment
from experiments.config_privacy import cohorts
from experiments.grid_noise import misfit
from experiments.timeline import Round
from proto import codecs
from proto.codecs import CodecError
from proto.codecs.ring import Ring
from proto.privacy import ClientPrivacy
from server.downlink import parse_exact

COLUMNS = ("noise_multiplier", "epsilon", "epsilon_single_update")
"""Of rounds.csv: the noise in the round's sum, and what is spent when it closes; empty without privacy."""


@dataclass(frozen=True)
class Spent:
    """After a round."""

    noise_multiplier: float | None
    """In the round's sum; None: there is none."""
    epsilon: float
    epsilon_single_update: float


class Accountant:
    """What each device has spent; `sums_hide` tells whether the noise of a round's updates adds up in what is
    made of them."""

    def __init__(self, privacy: ClientPrivacy, delta: float, *, sums_hide: bool) -> None:
        self._privacy, self._delta, self._sums_hide = privacy, delta, sums_hide
        self._in_sums: defaultdict[str, float] = defaultdict(float)
        """Device -> sum of 1 / multiplier^2 over its rounds."""
        self._single: defaultdict[str, float] = defaultdict(float)

    def close(self, asked: Sequence[str], summed: Sequence[str]) -> Spent:
        """A round of the cohort `asked`, whose sum is of the updates of `summed`."""
        alone = self._privacy.multiplier(1, len(asked)) if asked else math.nan
        together = self._privacy.multiplier(len(summed), len(asked)) if summed else None
        for name in asked:
            self._single[name] += _inverse_square(alone)
        for name in summed:
            self._in_sums[name] += _inverse_square(together if together and self._sums_hide else alone)
        return Spent(together, self._epsilon(self._in_sums), self._epsilon(self._single))

    def _epsilon(self, spent: dict[str, float]) -> float:
        return epsilon(max(spent.values(), default=0.0), self._delta)


def epsilon(inverse_square: float, delta: float) -> float:
    """Of Gaussian mechanisms whose 1 / multiplier^2 sum up to `inverse_square`."""
    # Imports SciPy, which takes a second.
    from dp_accounting import get_epsilon_gaussian

    if inverse_square == 0:
        return 0.0
    return float(get_epsilon_gaussian(1 / math.sqrt(inverse_square), delta))


def _inverse_square(multiplier: float) -> float:
    return math.inf if multiplier == 0 else multiplier**-2


def counts_alone(experiment: Experiment) -> str:
    """Why one update's noise counts alone in a sum, made of what the uplink's codec made of each; empty: all
    of it counts."""
    codec = codecs.parse(experiment.uplink.codec)
    asked = experiment.privacy.client(experiment.seed)
    if isinstance(codec, Ring) and asked is not None:
        largest, smallest = cohorts(experiment)
        return misfit(codec, asked.clip_norm, asked.noise_std(largest), asked.noise_std(smallest))
    try:
        parse_exact(experiment.uplink.codec)
    except CodecError:
        return f"{codec.name} being lossy"
    return ""


def add_columns(table: pd.DataFrame, rounds: Iterable[Round], experiment: Experiment) -> pd.DataFrame:
    """`COLUMNS` beside rounds.csv's; `table` has a row for each of `rounds`."""
    asked = experiment.privacy.client(experiment.seed)
    if asked is None:
        return table.assign(**dict.fromkeys(COLUMNS, math.nan))
    accountant = Accountant(asked, experiment.privacy.delta, sums_hide=not counts_alone(experiment))
    spent = [accountant.close(list(one.clients), one.finished) for one in rounds]
    return table.assign(**{key: [getattr(one, key) for one in spent] for key in COLUMNS})


def contradictions(rounds: Iterable[Round], experiment: Experiment) -> list[str]:
    """Rounds whose sum is not of one update a device that finished: their epsilon would be wrong."""
    if not experiment.privacy.differential:
        return []
    return [
        f"round {one.number}: updates of {len(one.finished)} devices weigh {one.weight} in a sum where each "
        "counts once: no epsilon holds"
        for one in rounds
        if one.weight not in (None, len(one.finished))
    ]


def report(table: pd.DataFrame, clients: pd.DataFrame, experiment: Experiment) -> dict[str, Any] | None:
    """For the manifest; None where no privacy was asked for. An epsilon of null: none holds."""
    privacy = experiment.privacy
    if not privacy.differential or not len(table):
        return None
    last, reason = table.iloc[-1], counts_alone(experiment)
    clipped = clients["clipped"].dropna().astype(bool)
    by_codec = f"; one update's noise counts alone: {reason}" if reason else ""
    server = (
        "nobody does, with secure aggregation" if privacy.secure_aggregation else "this run's server does"
    )
    return {
        "clip_norm": privacy.clip_norm,
        "noise_multiplier": privacy.noise_multiplier,
        "delta": privacy.delta,
        "epsilon": _finite(last["epsilon"]),
        "epsilon_holds_against": f"who sees sums and global adapters, and knows nobody's noise{by_codec}",
        "epsilon_single_update": _finite(last["epsilon_single_update"]),
        "epsilon_single_update_holds_against": f"who sees each noisy update by itself: {server}",
        "neighbours": "one device takes part with its data or with updates of zero (client level, zero-out)",
        "amplification_by_sampling": "none claimed",
        "noise": "drawn from the run's seed: the guarantee is the mechanism's, with noise nobody can foresee",
        "accountant": f"dp-accounting {metadata.version('dp-accounting')}, analytic Gaussian",
        "updates_clipped": int(clipped.sum()),
        "updates_looked_at": len(clipped),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def lines(told: dict[str, Any]) -> list[str]:
    """A report in words."""
    return [
        f"privacy: clip_norm {told['clip_norm']:g}, noise_multiplier {told['noise_multiplier']:g}, "
        f"delta {told['delta']:g}; {told['updates_clipped']} of {told['updates_looked_at']} updates clipped",
        *(
            f"  {key.replace('_', ' ')} {_shown(told[key])}, against {told[key + '_holds_against']}"
            for key in ("epsilon", "epsilon_single_update")
        ),
        f"  noise {told['noise']}",
    ]


def _shown(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:.3f}"
