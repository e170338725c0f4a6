"""Sorting the magnitudes of `ecq` into groups of one distribution, and putting them back.

A value's group is known before it: by its row's class, its dither, and q, the parity that the automaton asks
for. Values stand in a group in the order of the vector. Where the group depends on q, the decoder must go
through the rows two by two: the q of the next two follow from the magnitudes of all rows before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proto.codecs import trellis
from proto.codecs.codec import CodecError
from proto.codecs.dither import Dither
from proto.codecs.ecq_source import Shape
from proto.codecs.magnitudes import Found, Symbols
from proto.codecs.trellis import Automaton, Bits, Code


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
    groups: Sequence[Found], found: Bits, size: int, dither: Dither | None, phase_bits: int, code: Code
) -> tuple[Found, Bits]:
    """Magnitudes and parities q, both (steps, lanes), from the groups and from `keys`. Raises CodecError."""
    if phase_bits and dither is not None:
        return _row_by_row(groups, found, size, dither, phase_bits, code)
    placed = np.zeros(found.shape, np.uint8)
    flat = placed.reshape(-1)
    if len(groups) == 1:
        flat[:size] = groups[0]
    else:
        flat[np.argsort(found.reshape(-1)[:size], kind="stable")] = np.concatenate(groups)
    automaton = Automaton(code)
    for branch, even, flip in zip(_branches(placed), *_branches_of_zero(dither, placed), strict=True):
        automaton.tell(branch ^ even ^ (flip & automaton.ask()))
    return placed, trellis.from_numbers(automaton.asked, found.shape[1])


def _row_by_row(
    groups: Sequence[Found], found: Bits, size: int, dither: Dither, phase_bits: int, code: Code
) -> tuple[Found, Bits]:
    steps, lanes = found.shape
    placed = np.zeros(found.shape, np.uint8)
    evens, flips = _branches_of_zero(dither, placed)
    mirrored = found ^ np.uint8((1 << phase_bits) - 1)
    taken = [0] * len(groups)
    automaton = Automaton(code)
    for row in range(0, steps, Automaton.AHEAD):
        block = slice(row, min(row + Automaton.AHEAD, steps))
        asked = [automaton.ask() for _ in range(row, block.stop)]
        odd = trellis.from_numbers(asked, lanes).view(bool)
        members = np.where(odd, mirrored[block], found[block]).reshape(-1)[: size - row * lanes]
        parts = []
        for group, count in enumerate(np.bincount(members, minlength=len(groups)).tolist()):
            parts.append(groups[group][taken[group] : taken[group] + count])
            taken[group] += count
        together = np.concatenate(parts)
        if together.size < members.size:
            raise CodecError("a group has fewer values than belong to it")
        here = placed[block]
        here.reshape(-1)[members.argsort(kind="stable")] = together
        for branch, even, flip, q in zip(_branches(here), evens[block], flips[block], asked, strict=True):
            automaton.tell(branch ^ even ^ (flip & q))
    return placed, trellis.from_numbers(automaton.asked, lanes)


def _branches(magnitudes: Found) -> list[int]:
    """Rows of b of the points of these magnitudes, relative to that of magnitude 0: 0, 1, 1, 0, 0, 1, ..."""
    return trellis.to_numbers((magnitudes + np.uint8(1)) & np.uint8(2))


def _branches_of_zero(dither: Dither | None, like: Found) -> tuple[list[int], list[int]]:
    """Rows of b of magnitude 0 where q is 0, and of whether it is another where q is 1."""
    if dither is None:
        return [0] * like.shape[0], [0] * like.shape[0]
    even, flips = dither.branches()
    return trellis.to_numbers(even), trellis.to_numbers(flips)
