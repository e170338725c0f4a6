"""How wide a step makes `ecq` use the bits that it was given?

A row of mean square p, quantised with an error of mean square N, costs about 1/2 log2(1 + p/N) bits a
value (the rate of a Gaussian channel with that noise) and what the quantiser is short of ideal. That formula
says how the rate changes with the step; how far it is off, because values are not Gaussian, a trial
tells. One step for all rows gives each the same error, the best that
there is for the mean (reverse water-filling: Cover and Thomas, Elements of Information Theory, section 10.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from proto.codecs.trellis import CELL_POWER

Powers = NDArray[np.float64]

_SHORT_OF_IDEAL_BITS = 0.08
_NEGLIGIBLE = 1e-12
_NEAR = 0.2
"""The formula is trusted over so many powers of two of the step."""
_TRIALS = 8


def predicted_bits(powers: Powers, step: float) -> float:
    """Bits a value, for rows of these mean squares."""
    ratio = powers * (1 / (CELL_POWER * step * step))
    return 0.5 * float(np.log2(1 + ratio).sum()) / powers.size + _SHORT_OF_IDEAL_BITS


def predicted_step(powers: Powers, bits: float, near: float | None = None) -> float:
    """The step with which predicted_bits gives `bits`; rows may not all be zero. `near`: where to begin."""
    wanted = max(bits - _SHORT_OF_IDEAL_BITS, 0.01)
    floored = np.maximum(powers, powers.max() * _NEGLIGIBLE) / CELL_POWER
    logs = 0.5 * np.log2(floored)
    # Newton's method in log2(step). The rate is convex in it: from the left it comes nearer and never
    # overshoots, from the right it jumps to the left, here at most to where each row alone has its bits.
    leftmost = float(logs.min()) - wanted
    at = float(logs.sum()) / powers.size - wanted if near is None else math.log2(near)
    for _ in range(100):
        ratio = floored * 4.0**-at
        grown = 1 + ratio
        excess = 0.5 * float(np.log2(grown).sum()) / powers.size - wanted
        if abs(excess) < 1e-3:
            break
        at = max(at + excess * powers.size / float((ratio / grown).sum()), leftmost)
    return 2.0**at


class StepSearch:
    """From a step and the bits it made, to one that makes `bits` a value."""

    def __init__(self, powers: Powers, bits: float) -> None:
        self._powers, self._bits = powers, bits
        self._narrow, self._wide = 0.0, math.inf

    def better(self, step: float, made: float) -> float:
        """As the formula says, or halfway between too narrow and too wide where it leads out of there."""
        if made > self._bits:
            self._narrow = max(self._narrow, step)
        else:
            self._wide = min(self._wide, step)
        off = made - predicted_bits(self._powers, step)
        found = predicted_step(self._powers, self._bits - off, step)
        if self._narrow < found < self._wide or not (self._narrow and self._wide < math.inf):
            return found
        return math.sqrt(self._narrow * self._wide)

    def wider(self, step: float) -> float:
        """One that makes less than `step`, which must not be used."""
        return self._wide if step < self._wide < math.inf else 4 * step


def tried(powers: Powers, bits: float, near: float, trial: Callable[[float], float]) -> float:
    """The step that makes `bits` a value; `trial` says about what a value costs with one."""
    search, step = StepSearch(powers, bits), near
    for _ in range(_TRIALS):
        before, step = step, search.better(step, trial(step))
        if abs(math.log2(step / before)) < _NEAR:
            break
    return step
