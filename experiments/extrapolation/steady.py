"""Whether a transfer's rate has become steady, and what it is, from marks of its progress at the receiver.

The rule looks at the second half of the bytes, so that slow start and the overflow that ends it are behind:

1. the last quarter's rate agrees with that of the last half within 1 %: it has no trend left;
2. the half's rate is known within 2 %: half the 95 % interval of its mean over eight batches of equal bytes
   (the method of batch means; Law, Simulation Modeling and Analysis, section 9.5.3; Student's t). A rate that
   random losses toss about agrees with itself by chance; its batches do not.

Neither sees what repeats in longer periods than the half lasts. Queues that hold a round trip, which
part.py asks for, keep TCP's window from being such a thing: the link is never idle.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from experiments.estimate import estimate

BATCHES = 8
"""Of the second half."""
MOST_DRIFT = 0.01
MOST_INTERVAL = 0.02

Mark = tuple[float, float]
"""A time (s, on whatever clock), and the payload bytes that had come by then."""


@dataclass(frozen=True)
class Pace:
    """The rate of a transfer's second half, as seconds a byte of the clock that its marks are on."""

    s_per_byte: float
    drift: float
    """By how much faster the last quarter was than the last half, of the half's rate."""
    interval: float
    """Half of the 95 % interval, of the rate."""

    @property
    def unsteady(self) -> str | None:
        """What keeps it from being steady."""
        if not abs(self.drift) <= MOST_DRIFT:
            faster = "faster" if self.drift > 0 else "slower"
            return f"its last quarter was {abs(self.drift):.1%} {faster} than its last half"
        if not self.interval <= MOST_INTERVAL:
            return f"its rate is known to ±{self.interval:.1%} only"
        return None


def pace(marks: Sequence[Mark]) -> Pace | None:
    """Of marks in order of time and bytes; None where there are too few to cut the second half by."""
    ends = _batch_ends(marks)
    if ends is None:
        return None
    batches = [_s_per_byte(first, last) for first, last in pairwise(ends)]
    half, quarter = _s_per_byte(ends[0], ends[-1]), _s_per_byte(ends[BATCHES // 2], ends[-1])
    if half <= 0 or quarter <= 0:
        return None
    mean = estimate(batches)
    assert mean is not None and mean.half is not None  # There are eight.
    return Pace(half, half / quarter - 1, mean.half / mean.mean)


def on_time(marks: Sequence[Mark], least_s_per_byte: float) -> list[Mark]:
    """The marks without the delays of who wrote them.

    A process that was kept from its work notes late what had come, and then finds the rest waiting. So bytes
    that seem to come faster than their link carries (`least_s_per_byte`) show by when those before them must
    have come. Where the link itself was idle nothing catches up, and nothing is changed.
    """
    corrected = list(marks[-1:])
    for t, done in reversed(marks[:-1]):
        next_t, next_done = corrected[-1]
        corrected.append((min(t, next_t - (next_done - done) * least_s_per_byte), done))
    return corrected[::-1]


def _batch_ends(marks: Sequence[Mark]) -> list[Mark] | None:
    """The marks nearest to the ends of the batches; None unless all are different."""
    if not marks:
        return None
    sizes = [done for _, done in marks]
    ends = []
    for number in range(BATCHES + 1):
        wanted = sizes[-1] * (0.5 + number / (2 * BATCHES))
        after = min(bisect_left(sizes, wanted), len(sizes) - 1)
        ends.append(min((max(0, after - 1), after), key=lambda index: abs(sizes[index] - wanted)))
    if any(sizes[last] <= sizes[first] for first, last in pairwise(ends)):
        return None
    return [marks[index] for index in ends]


def _s_per_byte(first: Mark, last: Mark) -> float:
    return (last[0] - first[0]) / (last[1] - first[1])
