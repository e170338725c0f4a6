"""In turn: nobody is asked twice before everybody has been asked once."""

from __future__ import annotations

from collections.abc import Sequence

from server.selection.selector import Candidate, in_order


class RoundRobin:
    """The `count` whose last turn is longest ago, whether connected at the moment or not.

    A queue: who is chosen goes to its end, who is not available keeps its place. Candidates alone decide; the
    first turns go by the devices' order.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._turns: dict[str, int] = {}
        self._given = 0

    def select(self, candidates: Sequence[Candidate], round_number: int) -> list[str]:
        """As Selector.select."""
        waiting = sorted(candidates, key=lambda candidate: self._turns.get(candidate.name, 0))
        chosen = waiting[: self._count]
        for candidate in chosen:
            self._given += 1
            self._turns[candidate.name] = self._given
        return in_order(candidates, chosen)
