"""At random: FedAvg's own selection (McMahan et al., arXiv 1602.05629, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from server.selection.selector import Candidate


class RandomFraction:
    """`count` of the candidates, each as likely as any other, whether connected at the moment or not.

    Seed, round and candidates alone decide.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed

    def select(self, candidates: Sequence[Candidate], round_number: int) -> list[str]:
        """As Selector.select."""
        if self._count >= len(candidates):
            return [candidate.name for candidate in candidates]
        rng = np.random.default_rng((self._seed, round_number))
        chosen = rng.choice(len(candidates), self._count, replace=False)
        return [candidates[index].name for index in sorted(chosen)]
