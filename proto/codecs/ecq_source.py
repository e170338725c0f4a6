"""The encoder's half of `ecq` before anything is written: classes, step, points, and what became of each
value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from proto.adapter import Vector
from proto.codecs import ecq_step, trellis
from proto.codecs.dither import Dither
from proto.codecs.magnitudes import Symbols
from proto.codecs.trellis import CELL_POWER, FIXED_BITS, FIXED_HALF, FIXED_ONE, Bits, Code, Fixed

CLASSES = 4
_LANES, _STEPS = 256, 128
_FAR_STEPS = 250.0
"""A value beyond is not quantised but sent as it is; the magnitudes stay below magnitudes.LARGEST."""
_FAR_BITS = 64
_ALIKE = 0.6
"""Rows whose mean squares differ less, as log2, are not worth sorting."""
_TRIED_VALUES = 1 << 14
_NOISE = np.random.default_rng(0).standard_normal(_TRIED_VALUES + _LANES, np.float32)
_NOISE_OFF_GRID = _NOISE * np.float32(np.sqrt(CELL_POWER))
_NOISE_ON_GRID = _NOISE * np.float32(np.sqrt(CELL_POWER - 1 / 12))  # Rounding adds the rest.
FEW_VALUES = 1024
"""Of fewer the step is as predicted: what they cost says little of their distribution."""
SIDE_SHARE = 0.05
"""Of the bits, at most so much is taken from the values for what is sent beside them: short vectors are
longer."""
_TABLE_BITS = 8 * 16
_SMALLEST_STEP_EXPONENT = -126
"""Of normal float32 numbers."""


class Shape(NamedTuple):
    """The matrix that a vector is laid out in, row by row; the last row may not be full."""

    steps: int
    lanes: int

    @classmethod
    def of(cls, size: int) -> Shape:
        """128 rows of up to 256 values, more rows for vectors of more than 2^15."""
        lanes = max(1, min(_LANES, -(-size // _STEPS)))
        return cls(-(-size // lanes), lanes)


@dataclass(frozen=True)
class Quantised:
    """What a vector became with one step. Arrays are (steps, lanes), the unfilled end of the last row
    included."""

    step: np.float32
    """In units of the vector's own."""
    classes: Bits
    """Of each row, (steps,)."""
    groups: Bits
    """class * phases + phase: values with the same distribution."""
    magnitudes: Symbols
    errors: Fixed
    """Value minus point, counted away from zero."""
    far: NDArray[np.intp]
    """Places in the vector of values that are sent as they are."""


class Source:
    """A vector of shape (n,), its greatest magnitude `peak` > 0, about to be quantised."""

    def __init__(
        self, vector: Vector, peak: float, dither: Dither | None, phase_bits: int, code: Code
    ) -> None:
        self._size = vector.size
        self._dither, self._phase_bits, self._code = dither, phase_bits, code
        shape = Shape.of(vector.size)
        # Scaled by a power of two to at most 1, so that squares neither overflow nor vanish.
        self._exponent = max(int(np.frexp(peak)[1]), -120)
        self._values = np.zeros(shape, np.float32)
        np.multiply(vector, np.float32(2.0**-self._exponent), out=self._values.reshape(-1)[: vector.size])
        self._peak = peak * 2.0**-self._exponent
        self._powers = np.einsum("tl,tl->t", self._values, self._values).astype(np.float64) / shape.lanes
        self._classes = np.zeros(shape.steps, np.uint8)

    def step(self, bits: float, side_bytes: Callable[[int], float]) -> float:
        """The step for `bits` a value, in units of 2^exponent; sorts the rows into classes on the way.

        `side_bytes`: how much is sent beside the magnitudes, by the number of classes.
        """
        powers = self._powers
        near = ecq_step.predicted_step(powers, bits)
        self._classes = self._classify(near)
        side_bits = 8 * side_bytes(int(self._classes.max()) + 1)
        bits -= min(side_bits / self._size, SIDE_SHARE * bits)
        return near if self._size < FEW_VALUES else ecq_step.tried(powers, bits, near, self._trial)

    def search(self, bits: float) -> ecq_step.StepSearch:
        """For a step that makes `bits` a value, whatever counts as such."""
        return ecq_step.StepSearch(self._powers, bits)

    def _classify(self, step: float) -> Bits:
        """A class for each row by its mean square; all the same where that gains less than it costs."""
        powers, steps = self._powers, self._powers.size
        levels = np.log2(np.maximum(powers, powers.max() * 1e-6))
        low, high = np.sort(levels)[[steps // 20, -1 - steps // 20]]
        if high - low < _ALIKE:
            return np.zeros(steps, np.uint8)
        share = np.clip((levels - low) * (CLASSES / (high - low)), 0, CLASSES - 1)
        _, classes = np.unique(share.astype(np.uint8), return_inverse=True)
        means = np.bincount(classes, powers) / np.bincount(classes)
        together = ecq_step.predicted_bits(powers.mean(keepdims=True), step)
        apart = ecq_step.predicted_bits(means[classes], step)
        gain = (together - apart) * self._size
        worth = gain > 2 * steps + (CLASSES - 1) * (_TABLE_BITS << self._phase_bits // 2)
        return classes.astype(np.uint8) if worth else np.zeros(steps, np.uint8)

    def _trial(self, step: float) -> float:
        """About what a value costs, without the search: its point is a random one, as near as the trellis'.

        Such a point is the value with the right noise, rounded to one of them; or under dither, where points
        lie anywhere, not rounded. At most _TRIED_VALUES are tried.
        """
        stride = max(2, -(-self._size // _TRIED_VALUES))
        points = self._values[::stride] * np.float32(1 / step)
        noise = _NOISE_OFF_GRID if self._dither else _NOISE_ON_GRID
        points += noise[: points.size].reshape(points.shape)
        np.abs(points, out=points)
        far = int(np.count_nonzero(points > _FAR_STEPS)) if self._peak > _FAR_STEPS * step else 0
        np.minimum(points, np.float32(_FAR_STEPS), out=points)
        tried = points.astype(np.intp)
        kinds = self._classes[::stride].astype(np.intp)[:, None] << self._phase_bits
        if self._phase_bits:
            points -= tried
            phases = (points * np.float32(1 << self._phase_bits)).astype(np.intp)
            kinds = kinds | (phases ^ -(tried & 1) & ((1 << self._phase_bits) - 1))
        counts = np.bincount((tried + (kinds << 8)).reshape(-1))
        padded = np.zeros(-(-counts.size // 256) * 256)
        padded[: counts.size] = counts
        table = padded.reshape(-1, 256)
        # The entropy, and what it is short of because few were counted (Miller and Madow).
        seen = np.count_nonzero(table, axis=1)
        bits = _xlog2x(table.sum(axis=1)) - _xlog2x(table)
        bits += float(np.maximum(seen - 1, 0).sum()) / (2 * np.log(2))
        return (bits + far * _FAR_BITS) / tried.size

    def quantise(self, step: float) -> Quantised:
        """All values, with a step in units of 2^exponent."""
        least = 2.0 ** (_SMALLEST_STEP_EXPONENT - self._exponent)
        rounded = np.float32(max(step, least))
        scaled = self._values * np.float32(FIXED_ONE / rounded)
        far = np.zeros(0, np.intp)
        if self._peak > _FAR_STEPS * rounded:
            far = np.flatnonzero(np.abs(scaled) > _FAR_STEPS * FIXED_ONE)
            scaled.reshape(-1)[far] = 0
        np.rint(scaled, out=scaled)
        values = scaled.astype(np.int32)
        groups = np.broadcast_to(self._classes[:, None] << self._phase_bits, values.shape)
        if self._dither is not None:
            values = self._dither.add(values)
        chosen = trellis.quantise(values, self._code)
        points = (chosen << FIXED_BITS) + FIXED_HALF
        values -= points
        if self._dither is not None:
            points -= self._dither.offset
            if self._phase_bits:
                mirrored = (chosen & 1).astype(np.uint8) * np.uint8((1 << self._phase_bits) - 1)
                groups = groups | (self._dither.phase(self._phase_bits) ^ mirrored)
        negative = points >> 31
        values ^= negative
        values -= negative
        np.abs(points, out=points)
        points >>= FIXED_BITS
        own_step = np.float32(np.ldexp(rounded, self._exponent))
        return Quantised(own_step, self._classes, groups, points, values, far)


def _xlog2x(counts: NDArray[np.float64]) -> float:
    """The sum of count * log2(count); 0 counts as 0."""
    return float((counts * np.log2(np.maximum(counts, 1))).sum())
