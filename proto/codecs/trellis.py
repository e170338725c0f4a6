"""Trellis-coded quantisation: a search over whole sequences instead of rounding value by value.

The points a value may become are (m + 1/2) steps, m an integer. An automaton of 16 states allows each value
half of them, those with m even or those with m odd, and which it is at the next value depends on the points
chosen so far. So a value costs as many bits as with steps twice as wide, but of the 2^n sequences of
parities the search (Viterbi's) takes one that suits all n values: the error is 1.15 dB below that of
rounding to the wide steps, of the 1.53 dB that any quantiser can gain (Marcellin and Fischer, IEEE Trans.
Comm. 38, 1990).

The automaton is Ungerboeck's convolutional code with 16 states, parity check (23, 04) in octal (IEEE Trans.
Inf. Theory 28, 1982). With q = m mod 2 and b = floor((m + 1) / 2) mod 2, every sequence satisfies q[t] =
q[t-1] + q[t-4] + b[t-2] (mod 2), zeros before it. For example the values .7 .1 -.9 steps may become .5 .5
-1.5: m = 0, 0, -2, so q = 0, 0, 0, b = 0, 0, 1 and the fifth value's q is the first that can be odd.

Values stand in a matrix of `steps` rows and `lanes` columns. Each lane is a sequence of its own, begun in
state 0, which costs 1.5 bits a lane; numpy does a row's lanes at a time. All arithmetic is on integers.
"""

from __future__ import annotations

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

CELL_POWER = 0.26
"""Mean square of the error in squared steps, in 128 rows of values spread over many steps (rounding to wide
steps: 1/3)."""

_STATE_BITS = 4
_STATES = 1 << _STATE_BITS
_Q_TAPS = (1, 4)
"""How far back the parities are that decide a value's, h0 = 23 octal = D^4 + D + 1."""
_B_TAP = 2
"""And the one b, h1 = 04 octal = D^2."""

_METRIC_BITS = 6
"""A quarter of the 256 phases in a period: distances are measured to 1/64 step."""
_RENORMALISE = 32
_TOGETHER = 8
"""Rows whose distances are spread over the ways in one go: as many as stay in the cache."""
_FORBIDDEN = 1 << 14
"""More than any path of _STATE_BITS values costs, and so little that 16 bits hold it and 32 values besides:
a value costs 2^10 at most, the states differ by 2^12 at most after each 32, and 2^14 + 32 * 2^10 < 2^16."""


def _transitions() -> tuple[NDArray[np.intp], NDArray[np.intp], Fixed]:
    """Predecessors of each state [2, states]; m mod 4 on the way from them; the point at it [states,
    states]."""
    before = np.zeros((2, _STATES), np.intp)
    residues = np.zeros((2, _STATES), np.intp)
    points = np.zeros((_STATES, _STATES), np.int32)
    found: list[list[int]] = [[] for _ in range(_STATES)]
    for state in range(_STATES):
        q = state & 1
        for b in (0, 1):
            # A shift register whose lowest bit is q[t]; q and b enter where they will be due.
            after = (state >> 1) ^ sum(q << (tap - 1) for tap in _Q_TAPS) ^ (b << (_B_TAP - 1))
            residue = 3 - 2 * b if q else 2 * b
            index = len(found[after])
            found[after].append(state)
            before[index, after], residues[index, after] = state, residue
            points[state, after] = residue * FIXED_ONE + FIXED_HALF
    assert (before[1] - before[0] == before[1, 0] - before[0, 0]).all()
    return before, residues, points


_BEFORE, _RESIDUES, _POINTS = _transitions()
_APART = int(_BEFORE[1, 0] - _BEFORE[0, 0])
"""The two predecessors of a state differ by so much."""


def quantise(values: Fixed) -> NDArray[np.int32]:
    """The m of the allowed sequence of points nearest to `values`; both of shape (steps, lanes).

    Magnitudes below 2^31 - 2 periods; at most 4096 lanes.
    """
    lanes = values.shape[1]
    path = _search(_distances(values), lanes)
    states = path // np.uint16(lanes)
    changes = states[:-1] * np.uint16(_STATES)
    changes += states[1:]
    error = values - _POINTS.reshape(-1).take(changes)
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
    distances = np.empty((values.shape[0], PERIOD, values.shape[1]), np.uint16)
    for residue in range(PERIOD):
        # Eight bits are one period, so that overflow finds the nearest point.
        apart = (phases - np.uint8((residue << _METRIC_BITS) + (1 << (_METRIC_BITS - 1)))).view(np.int8)
        square = apart.astype(np.int16)
        square *= square
        np.right_shift(square, 4, out=distances[:, residue], casting="unsafe")
    return distances


def _search(distances: NDArray[np.uint16], lanes: int) -> NDArray[np.uint16]:
    """The cheapest path, as state * lanes + lane before each value and after the last: (steps + 1, lanes)."""
    steps = distances.shape[0]
    costs = np.full((_STATES, lanes), _FORBIDDEN, np.uint16)
    costs[0] = 0
    ways = np.empty((2 * _STATES, lanes), np.uint16)
    first, second = ways[:_STATES], ways[_STATES:]
    taken = np.empty((steps, _STATES, lanes), bool)
    before, residues = _BEFORE.reshape(-1), _RESIDUES.reshape(-1)
    for step in range(steps):
        if step % _TOGETHER == 0:
            added = distances[step : step + _TOGETHER].take(residues, axis=1)
        costs.take(before, axis=0, out=ways, mode="clip")
        np.add(ways, added[step % _TOGETHER], out=ways)
        np.less(second, first, out=taken[step])
        np.minimum(first, second, out=costs)
        if step % _RENORMALISE == _RENORMALISE - 1:
            costs -= costs.min(axis=0)
    lane = np.arange(lanes, dtype=np.uint16)
    back = taken * np.uint16(_APART * lanes)
    back += _BEFORE[0].astype(np.uint16)[:, None] * np.uint16(lanes) + lane
    path = np.empty((steps + 1, lanes), np.uint16)
    path[steps] = costs.argmin(axis=0).astype(np.uint16) * np.uint16(lanes) + lane
    for step in range(steps - 1, -1, -1):
        back[step].reshape(-1).take(path[step + 1], out=path[step], mode="clip")
    return path


class Automaton:
    """The decoder's: what parity it asks for next, in all lanes at once, as a whole number of a bit a
    lane."""

    AHEAD = _B_TAP
    """So many rows' parities follow from the rows before them."""

    def __init__(self) -> None:
        self._q = [0] * max(_Q_TAPS)
        self._b = [0] * _B_TAP

    def ask(self) -> int:
        """The next row's q. All rows' b but the last AHEAD must have been told."""
        q = self._b[len(self._q) - max(_Q_TAPS)]
        for tap in _Q_TAPS:
            q ^= self._q[-tap]
        self._q.append(q)
        return q

    def tell(self, b: int) -> None:
        """The b of the oldest row that lacks it."""
        self._b.append(b)

    @property
    def asked(self) -> list[int]:
        """The q of all rows so far."""
        return self._q[max(_Q_TAPS) :]


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
