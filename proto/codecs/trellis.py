"""Trellis-coded quantisation: a search over whole sequences instead of rounding value by value.

The points a value may become are (m + 1/2) steps, m an integer. An automaton allows each value half of them,
those with m even or those with m odd, and which it is at the next value depends on the points chosen so far.
So a value costs as many bits as with steps twice as wide, but of the 2^n sequences of parities the search
(Viterbi's) takes one that suits all n values: the error is 1.09 dB (8 states) or 1.16 dB (16) below that of
rounding to the wide steps, of the 1.53 dB that any quantiser can gain (Marcellin and Fischer, IEEE Trans.
Comm. 38, 1990).

The automata are Ungerboeck's convolutional codes, with parity checks (13, 04) and (23, 04) in octal (IEEE
Trans. Inf. Theory 28, 1982). With q = m mod 2 and b = floor((m + 1) / 2) mod 2, every sequence satisfies,
modulo 2 and with zeros before it, q[t] = q[t-1] + q[t-3] + b[t-2] (8 states). For example the values .7 .1
-.9 steps may become .5 .5 -1.5: m = 0, 0, -2, so q = 0, 0, 0, b = 0, 0, 1 and the fifth value's q is the
first that can be odd.

Values stand in a matrix of `steps` rows and `lanes` columns. Each lane is a sequence of its own, begun in
state 0, which costs about a bit a lane; numpy does a row's lanes at a time. All arithmetic is on integers.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Fixed = NDArray[np.int32]
"""Values in steps, as fixed-point numbers: FIXED_ONE is one step."""
Bits = NDArray[np.uint8]

FIXED_BITS = 22
FIXED_ONE = 1 << FIXED_BITS
FIXED_HALF = FIXED_ONE // 2
PERIOD = 4
"""The automaton cannot tell m from m + 4: a shift of a value by so many steps shifts its point, and no
other."""

CELL_POWER = 0.262
"""Mean square of the error in squared steps, in 128 rows of values spread over many steps (rounding: 1/3)."""

_B_TAP = 2
"""How far back the b is that decides a value's q: h1 = 04 octal = D^2."""

_METRIC_BITS = 6
"""A quarter of the 256 phases in a period: distances are measured to 1/64 step."""
_RENORMALISE = 32
_TOGETHER = 8
"""Rows whose distances are spread over the ways in one go: as many as stay in the cache."""
_FORBIDDEN = 1 << 14
"""More than any path that leaves state 0 costs until it has met all others, and so little that 16 bits hold
it and 32 values besides: a value costs 2^10 at most, the states differ by 2^12 at most after each 32, and
2^14 + 32 * 2^10 < 2^16."""


@dataclass(frozen=True)
class Code:
    """An automaton; `q_taps` says how far back the q are that decide a value's."""

    states: int
    q_taps: tuple[int, int]

    @cached_property
    def ways(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The two states before each, and m mod 4 on the way from them, both [2, states]."""
        found: list[list[int]] = [[] for _ in range(self.states)]
        for state in range(self.states):
            for b in (0, 1):
                # A shift register whose lowest bit is q[t]; q and b enter where they will be due.
                q = state & 1
                after = (state >> 1) ^ sum(q << (tap - 1) for tap in self.q_taps) ^ (b << (_B_TAP - 1))
                found[after].append(state)
        before = np.ascontiguousarray(np.array(found, np.intp).T)
        residues = _residues(before.astype(np.uint8), np.arange(self.states, dtype=np.uint8))
        return before, residues.astype(np.intp)


FAST = Code(8, (1, 3))
FINE = Code(16, (1, 4))
"""0.008 bits a value nearer to the bound, and a third slower."""


def _residues(before: Bits, after: Bits) -> Bits:
    """m mod 4 on the way from one state to another: 0 or 2 if q is 0; 3 or 1, if b is 0 or 1, if q is 1."""
    twice_b = (after ^ (before >> 1)) & np.uint8(1 << (_B_TAP - 1))  # No q enters there.
    residues: Bits = np.bitwise_xor(twice_b, (before & np.uint8(1)) * np.uint8(3))
    return residues


def quantise(values: Fixed, code: Code) -> NDArray[np.int32]:
    """The m of the allowed sequence of points nearest to `values`; both of shape (steps, lanes).

    Magnitudes below 2^31 - 2 periods; at most 4096 lanes.
    """
    lanes = values.shape[1]
    path = _search(_distances(values), code)
    states = (path // np.uint16(lanes)).astype(np.uint8)
    residues = _residues(states[:-1], states[1:]).astype(np.int32)
    residues <<= FIXED_BITS
    error = values - residues
    error -= FIXED_HALF
    wrap = 32 - FIXED_BITS - 2  # To the nearest of the points a period apart.
    error <<= wrap
    error >>= wrap
    np.subtract(values, error, out=error)
    error >>= FIXED_BITS
    return error


def _distances(values: Fixed) -> NDArray[np.uint16]:
    """Squared distance to the nearest point of each residue of m, (steps, 4, lanes); 2^10 is (2 steps)^2."""
    shift = FIXED_BITS - _METRIC_BITS
    phases = ((values + (1 << (shift - 1))) >> shift).astype(np.uint8)
    distances = _scratch("distances", (values.shape[0], PERIOD, values.shape[1]), np.uint16)
    for residue in range(PERIOD):
        # Eight bits are one period, so that overflow finds the nearest point.
        apart = (phases - np.uint8((residue << _METRIC_BITS) + (1 << (_METRIC_BITS - 1)))).view(np.int8)
        square = apart.astype(np.int16)
        square *= square
        np.right_shift(square, 4, out=distances[:, residue], casting="unsafe")
    return distances


def _search(distances: NDArray[np.uint16], code: Code) -> NDArray[np.uint16]:
    """The cheapest path, as state * lanes + lane before each value and after the last: (steps + 1, lanes).

    A numpy call takes as long as its work here: out and mode are given by position, which is quicker.
    """
    steps, _, lanes = distances.shape
    before, residues = code.ways
    costs = np.full((code.states, lanes), _FORBIDDEN, np.uint16)
    costs[0] = 0
    ways = np.empty((2 * code.states, lanes), np.uint16)
    first, second = ways[: code.states], ways[code.states :]
    second_is_less = _scratch("second_is_less", (steps, code.states, lanes), np.bool_)
    all_before, all_residues = before.reshape(-1), residues.reshape(-1)
    spread, add, less, minimum = costs.take, np.add, np.less, np.minimum
    for start in range(0, steps, _TOGETHER):
        stop = start + _TOGETHER
        added = distances[start:stop].take(all_residues, 1)
        for row, chosen in zip(added, second_is_less[start:stop], strict=True):
            spread(all_before, 0, ways, "clip")
            add(ways, row, ways)
            less(second, first, chosen)
            minimum(first, second, out=costs)
        if stop % _RENORMALISE == 0:
            costs -= costs.min(axis=0)
    lane = np.arange(lanes, dtype=np.uint16)
    apart = int(before[1, 0] - before[0, 0])  # As far as any state's two predecessors.
    back = _scratch("back", second_is_less.shape, np.uint16)
    np.multiply(second_is_less, np.uint16(apart * lanes), out=back)
    back += before[0].astype(np.uint16)[:, None] * np.uint16(lanes) + lane
    path = np.empty((steps + 1, lanes), np.uint16)
    path[steps] = costs.argmin(axis=0).astype(np.uint16) * np.uint16(lanes) + lane
    for came_from, here, earlier in zip(
        back.reshape(steps, -1)[::-1], path[:0:-1], path[-2::-1], strict=True
    ):
        came_from.take(here, None, earlier, "clip")
    return path


_kept = threading.local()
_KEPT_VALUES = 1 << 15


def _scratch(name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Memory that a thread keeps from search to search, for a segment at most: new pages take their time."""
    if shape[0] * shape[-1] > _KEPT_VALUES:
        return np.empty(shape, dtype)
    array = getattr(_kept, name, None)
    if array is None or array.shape != shape:
        array = np.empty(shape, dtype)
        setattr(_kept, name, array)
    return array


class Automaton:
    """The decoder's: what parity it asks for next, in all lanes at once, as a whole number of a bit a
    lane."""

    AHEAD = _B_TAP
    """So many rows' parities follow from the rows before them."""

    def __init__(self, code: Code) -> None:
        self._taps = code.q_taps
        self._oldest = max(self._taps)
        self._q = [0] * self._oldest
        self._b = [0] * _B_TAP

    def ask(self) -> int:
        """The next row's q. All rows' b but the last AHEAD must have been told."""
        q = self._b[len(self._q) - self._oldest]
        for tap in self._taps:
            q ^= self._q[-tap]
        self._q.append(q)
        return q

    def tell(self, b: int) -> None:
        """The b of the oldest row that lacks it."""
        self._b.append(b)

    @property
    def asked(self) -> list[int]:
        """The q of all rows so far."""
        return self._q[self._oldest :]


def to_numbers(bits: Bits) -> list[int]:
    """A whole number for each row of (rows, lanes); what is not 0 counts as 1."""
    width = -(-bits.shape[1] // 8)
    packed = np.packbits(bits, axis=1).tobytes()
    return [int.from_bytes(packed[at : at + width]) for at in range(0, len(packed), width)]


def from_numbers(rows: list[int], lanes: int) -> Bits:
    """The opposite of to_numbers."""
    width = -(-lanes // 8)
    packed = np.frombuffer(b"".join(row.to_bytes(width) for row in rows), np.uint8)
    return np.unpackbits(packed.reshape(len(rows), width), axis=1, count=lanes)
