"""Sorting the magnitudes of `ecq` into groups of one distribution, and putting them back.

A value's group is known before it: by its row's class, its dither, and q, the parity that the automaton asks for.
Values stand in a group in the order of the vector. Where the group depends on q, the decoder must go
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
from proto.codecs.trellis import Bits


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
    b = _branch(placed)
    q = np.zeros(found.shape, np.uint8)
    even, flips = _branches(dither, q)
    for row in range(0, q.shape[0], trellis.BLOCK):
        trellis.parities(b, q, row)
        if dither is not None:
            block = slice(row, row + trellis.BLOCK)
            b[block] ^= even[block] ^ (flips[block] & q[block])
    return placed, q


def _row_by_row(
    groups: Sequence[Symbols], found: Bits, size: int, dither: Dither, phase_bits: int
) -> tuple[Symbols, Bits]:
    steps, lanes = found.shape
    placed = np.zeros(found.shape, np.int32)
    b, q = np.zeros(found.shape, np.uint8), np.zeros(found.shape, np.uint8)
    even, flips = _branches(dither, q)
    mirror = np.uint8((1 << phase_bits) - 1)
    taken = [0] * len(groups)
    for row in range(0, steps, trellis.BLOCK):
        trellis.parities(b, q, row)
        block = slice(row, row + trellis.BLOCK)
        members = (found[block] ^ (q[block] * mirror)).reshape(-1)[: size - row * lanes]
        parts = []
        for group, count in enumerate(np.bincount(members, minlength=len(groups)).tolist()):
            parts.append(groups[group][taken[group] : taken[group] + count])
            taken[group] += count
        if sum(map(len, parts)) < members.size:
            raise CodecError("a group has fewer values than belong to it")
        here = placed[block].reshape(-1)
        here[np.argsort(members, kind="stable")] = np.concatenate(parts)
        b[block] = _branch(placed[block]) ^ even[block] ^ (flips[block] & q[block])
    return placed, q


def _branch(magnitudes: Symbols) -> NDArray[np.uint8]:
    """b of the points of these magnitudes, relative to that of magnitude 0: 0, 1, 1, 0, 0, 1, 1, ..."""
    return (((magnitudes + 1) >> 1) & 1).astype(np.uint8)


def _branches(dither: Dither | None, q: Bits) -> tuple[Bits, Bits]:
    """b of magnitude 0 where q is 0, and whether it is another where q is 1."""
    if dither is None:
        return q, q
    even = dither.branch(odd=False)
    return even, even ^ dither.branch(odd=True)
