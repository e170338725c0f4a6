"""Power of choice: those with the highest loss among a few drawn (Cho, Wang, Joshi, arXiv 2010.01243)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.selection.selector import Candidate, SelectionError, in_order, reachable


class PowerOfChoice:
    """Draws `drawn` connected devices, then takes the `count` of them with the highest loss.

    They are drawn without replacement, with probabilities in proportion to their examples. The loss is the
    paper's variant rpow-d: the mean training loss that a device reported with its last update, infinite
    before the first, so that nobody computes or sends anything to be chosen. Ties are broken at random. The
    paper then averages with equal weights; here FedAvg weighs by examples as it does for every policy, so a
    device with many examples counts twice: in the draw and in the mean.

    Seed, round and reported losses decide: the same seed gives the same cohorts as long as the same updates
    arrive; a lost or late one changes what is known.
    """

    def __init__(self, count: int, drawn: int, seed: int) -> None:
        if drawn < count:
            raise SelectionError(
                f"power_of_choice({drawn}) draws fewer devices than a cohort of {count} takes"
            )
        self._count, self._drawn, self._seed = count, drawn, seed

    def select(self, candidates: Sequence[Candidate], round_number: int) -> list[str]:
        """As Selector.select."""
        pool = reachable(candidates)
        rng = np.random.default_rng((self._seed, round_number))
        # A device that has not registered again after a restart has told no examples yet.
        weights = np.array([max(1, candidate.examples) for candidate in pool], float)
        drawn = rng.choice(
            len(pool), min(self._drawn, len(pool)), replace=False, p=weights / weights.sum(), shuffle=False
        )
        highest_first = sorted((pool[index] for index in rng.permutation(drawn)), key=_loss, reverse=True)
        return in_order(candidates, highest_first[: self._count])


def _loss(candidate: Candidate) -> float:
    return float("inf") if candidate.loss is None else candidate.loss
