"""Sorting the magnitudes of `ecq` into groups of one distribution, and putting them back.

A value's group is known before it: by its row's class, its dither, and q, the parity that the automaton asks
for. Values stand in a group in the order of the vector. Where the group depends on q, the decoder must go
through the rows two by two: the q of the next two follow from the magnitudes of all rows before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from proto.codecs import trellis
from proto.codecs.codec import CodecError
from proto.codecs.dither import Dither
from proto.codecs.ecq_source import Shape
from proto.codecs.magnitudes import Symbols
from proto.codecs.trellis import Automaton, Bits


def keys(classes: Bits, shape: Shape, dither: Dither | None, phase_bits: int) -> Bits:
    """The group of each value, (steps, lanes), if q is 0; if it is 1 the phase is mirrored."""
    found = np.broadcast_to(classes[:, None] << np.uint8(phase_bits), shape)
    return found | dither.phase(phase_bits) if dither is not None and phase_bits else found


def sort_out(magnitudes: Symbols, groups: Bits, size: int, count: int) -> list[Symbols]:
    """The first `size` of magnitudes, (steps, lanes), in `count` groups."""
    flat = magnitudes.reshape(-1)[:size]
    if count == 1:
        return [flat]
    members = groups.reshape(-1)[:size]
    ends = np.cumsum(np.bincount(members, minlength=count))
    return np.split(flat.take(np.argsort(members, kind="stable")), ends[:-1])


def put_back(
    groups: Sequence[Symbols], found: Bits, size: int, dither: Dither | None, phase_bits: int
) -> tuple[Symbols, Bits]:
    """Magnitudes and parities q, both (steps, lanes), from the groups and from `keys`."""
    if phase_bits and dither is not None:
        return _row_by_row(groups, found, size, dither, phase_bits)
    placed = np.zeros(found.shape, np.int32)
    flat = placed.reshape(-1)
    if len(groups) == 1:
        flat[:size] = groups[0]
    else:
        flat[np.argsort(found.reshape(-1)[:size], kind="stable")] = np.concatenate(groups)
    return placed, _parities(_branch(placed), dither)


def _parities(b: Bits, dither: Dither | None) -> Bits:
    """q of all values, from the b of their magnitudes, both (steps, lanes)."""
    automaton = Automaton()
    if dither is None:
        for row in trellis.to_numbers(b):
            automaton.ask()
            automaton.tell(row)
    else:
        even, flips = dither.branches()
        for row, flip in zip(trellis.to_numbers(b ^ even), trellis.to_numbers(flips), strict=True):
            automaton.tell(row ^ (flip & automaton.ask()))
    return trellis.from_numbers(automaton.q[-b.shape[0] :], b.shape[1])


def _row_by_row(
    groups: Sequence[Symbols], found: Bits, size: int, dither: Dither, phase_bits: int
) -> tuple[Symbols, Bits]:
    steps, lanes = found.shape
    placed, q = np.zeros(found.shape, np.int32), np.zeros(found.shape, np.uint8)
    even, flips = dither.branches()
    mirror = np.uint8((1 << phase_bits) - 1)
    taken = [0] * len(groups)
    automaton = Automaton()
    for row in range(0, steps, Automaton.AHEAD):
        block = slice(row, min(row + Automaton.AHEAD, steps))
        asked = [automaton.ask() for _ in range(row, block.stop)]
        parity = q[block] = trellis.from_numbers(asked, lanes)
        members = (found[block] ^ (parity * mirror)).reshape(-1)[: size - row * lanes]
        parts = []
        for group, count in enumerate(np.bincount(members, minlength=len(groups)).tolist()):
            parts.append(groups[group][taken[group] : taken[group] + count])
            taken[group] += count
        if sum(map(len, parts)) < members.size:
            raise CodecError("a group has fewer values than belong to it")
        placed[block].reshape(-1)[np.argsort(members, kind="stable")] = np.concatenate(parts)
        for told in trellis.to_numbers(_branch(placed[block]) ^ even[block] ^ (flips[block] & parity)):
            automaton.tell(told)
    return placed, q


def _branch(magnitudes: Symbols) -> NDArray[np.uint8]:
    """b of the points of these magnitudes, relative to that of magnitude 0: 0, 1, 1, 0, 0, 1, 1, ..."""
    return (((magnitudes + 1) >> 1) & 1).astype(np.uint8)
