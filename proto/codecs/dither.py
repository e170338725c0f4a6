"""Subtractive dither for a trellis-coded quantiser: its error is then independent of what it quantises.

A value x (in steps) is quantised as s x + u, with u uniform over the period of the trellis and s = 1 or -1
by a fair coin, both drawn by encoder and decoder from one seed; the decoder subtracts u and undoes s. Modulo
the period s x + u is uniform whatever x is, and so the error does not depend on x (Schuchman, IEEE Trans.
Comm. 12, 1964; for lattices Zamir and Feder, IEEE Trans. Inf. Theory 38, 1992; trellis codes are periodic
likewise). The coin makes its mean zero even where the quantiser is not symmetric. So decode(encode(x)) has
mean x, for every x.

The points around zero that a value may become are then r, r - 2, r + 2, r - 4, ... with -1 < r < 1 where the
automaton asks for an even m, and where it asks for an odd one they are r - 1, r + 1, r - 3, ... for r > 0.
So with rho = |r|, sign(r) = + and e = magnitude + q (mod 2), they have magnitude + rho (e = 0, positive) and
magnitude + 1 - rho (e = 1, negative), magnitude being 0, 1, 2, ... in the order of their distance. Without
dither rho is 1/2.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from proto.adapter import Vector
from proto.codecs.shared_random import raw_words
from proto.codecs.trellis import FIXED_BITS, FIXED_HALF, FIXED_ONE, PERIOD, Bits, Fixed


class Dither:
    """The dither of a matrix of values, from a seed of 8 bytes."""

    def __init__(self, seed: bytes, shape: tuple[int, int]) -> None:
        count = shape[0] * shape[1]
        words = raw_words(seed, -(-count // 2)).astype("<u8").view("<u4")[:count].reshape(shape)
        # Odd, so that no point is as far from zero as another or lies on it.
        self.offset: Fixed = ((words & (PERIOD * FIXED_ONE - 1)) | 1).astype(np.int32)
        self.coin: Fixed = -(words >> 31).astype(np.int32)
        """0 or -1, for s = 1 or -1."""

    def add(self, values: Fixed) -> Fixed:
        """s x + u."""
        dithered = values ^ self.coin
        dithered -= self.coin
        dithered += self.offset
        return dithered

    @cached_property
    def nearest(self) -> Fixed:
        """r: the point nearest to zero, u subtracted, if the automaton asks for an even m."""
        wrap = 32 - FIXED_BITS - 1
        return ((FIXED_HALF - self.offset) << wrap) >> wrap

    def branches(self) -> tuple[Bits, Bits]:
        """b (proto/codecs/trellis.py) of the point of magnitude 0 if q is 0, and whether it is another if q
        is 1."""
        even = ((self.nearest + self.offset) >> (FIXED_BITS + 1)) & 1
        return even.astype(np.uint8), (self.nearest < 0).view(np.uint8)

    def phase(self, phase_bits: int) -> Bits:
        """rho in 2^phase_bits equal parts, if the automaton asks for an even m; mirrored if it is odd."""
        rho = np.abs(self.nearest)
        return (rho >> (FIXED_BITS - phase_bits)).astype(np.uint8)

    def points(self, magnitudes: Bits, q: Bits) -> Vector:
        """Magnitudes and parities -> the values they stand for, in steps."""
        nearest = self.nearest
        opposite = ((magnitudes ^ q) & np.uint8(1)).astype(np.int32)
        rho = np.abs(nearest)
        rho ^= -opposite  # 1 - rho, but for 2^-22 that the next line makes good.
        rho += opposite * (FIXED_ONE + 1)
        rho += magnitudes.astype(np.int32) << FIXED_BITS
        negative = (nearest >> 31) ^ -opposite ^ self.coin
        rho ^= negative
        rho -= negative
        return rho.astype(np.float32) * np.float32(1 / FIXED_ONE)
