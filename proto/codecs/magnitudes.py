"""The entropy coder of `ecq`: small whole numbers in groups, each group with a distribution of its own.

The numbers are magnitudes of quantised values, so their distribution is smooth, and a table of it needs few
entries: -log2 of the first eight probabilities and of every fourth after them, in sixteenths of a bit, a
byte each. Between them it is interpolated. For Gaussian values at 4 bits that is 17 bytes for 40 numbers and
costs 0.001 bits a value. Everything that the decoder's model is built of is a whole number, so that both ends
have the same model whatever machine they are; the coder itself (asymmetric numeral systems, Duda,
arXiv 1311.2540) is constriction's.

A group may be of values whose points lie nearer to or further from zero than usual, by `shift` steps: its
distribution is then read off the same table between the entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from proto.codecs.codec import CodecError

Symbols = NDArray[np.int32]
Found = NDArray[np.uint8]
"""Decoded symbols."""
Lengths = NDArray[np.int64]
"""Code lengths of 0, 1, ... in 1/64 bit."""

LARGEST = 253
"""The largest magnitude there can be."""
_DENSE, _SPARSE = 8, 4
_COUNTS_UNSEEN = 0.3
SHIFT_UNIT = 16


def _powers() -> NDArray[np.float64]:
    """floor(2^40 * 2^(-i/64)) for i = 0 .. 1023, exact in float64."""
    root = 2 << (64 * 60)
    for _ in range(6):  # The 64th root of 2, as a whole number of 2^-60.
        root = isqrt(root)
    value, powers = 1 << 100, []
    for _ in range(1024):
        powers.append(float(value >> 60))
        value = (value << 60) // root
    return np.array(powers)


_POWERS = _powers()


def knots(largest: int) -> NDArray[np.intp]:
    """The magnitudes whose code lengths are sent where there are none beyond `largest`."""
    count = largest + 1
    sparse = range(_DENSE, count + _SPARSE - 1, _SPARSE) if count > _DENSE else ()
    return np.array([*range(min(count, _DENSE)), *sparse], np.intp)


def to_table(counts: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Code lengths at the knots, in 1/16 bit, from how often 0, 1, ..., largest occur."""
    places = knots(counts.size - 1)
    padded = np.zeros(places[-1] + _SPARSE + 1)
    padded[: counts.size] = counts
    seen = padded[places]
    for index in range(_DENSE, places.size):  # The mean of a knot's surroundings.
        around = slice(places[index] - 2, min(places[index] + 3, counts.size))
        window = padded[around]
        seen[index] = window.mean() if window.size else 0
    lengths = -np.log2(np.maximum(seen, _COUNTS_UNSEEN) / counts.sum())
    return np.clip(np.rint(16 * lengths), 0, 255).astype(np.uint8)


def code_lengths(table: NDArray[np.uint8], largest: int, shift: int = 0) -> Lengths:
    """Unnormalised, of 0 .. largest; `shift` in 1/16 step, from -8 to 8, see the top of this file."""
    places = knots(largest)
    coarse = 4 * table.astype(np.int64)
    # Dense entries are themselves; a sparse stretch is four equal parts of its ends' difference.
    lengths = np.empty(places[-1] + 1, np.int64)
    lengths[places] = coarse
    for start, stop in zip(places[_DENSE - 1 :], places[_DENSE:], strict=False):
        rise, run = int(lengths[stop] - lengths[start]), int(stop - start)
        for at in range(1, run):
            lengths[start + at] = lengths[start] + rise * at // run
    lengths = lengths[: largest + 1]
    return _shifted(lengths, shift) if shift and largest else lengths


def _shifted(lengths: Lengths, shift: int) -> Lengths:
    """Even magnitudes lie `shift` further out, odd ones as much further in: their points alternate in
    sign."""
    beyond = 2 * lengths[-1] - lengths[-2]
    # A parabola through the first entries has this slope, from 1/2 to 0.
    within = lengths[0] - (lengths[1] - lengths[0]) // 4
    around = np.concatenate([[within], lengths, [beyond]])
    outward = np.arange(lengths.size) % 2 == (0 if shift > 0 else 1)
    toward = np.where(outward, around[2:], around[:-2])
    return lengths + (toward - lengths) * abs(shift) // SHIFT_UNIT


def weights(lengths: Lengths) -> NDArray[np.float64]:
    """Whole numbers in proportion to the probabilities."""
    return _POWERS[np.clip(lengths, 0, _POWERS.size - 1)]


def bits(counts: NDArray[np.intp], lengths: Lengths) -> float:
    """What a group costs in which 0, 1, ... occur so often."""
    weight = weights(lengths)
    return float(counts.sum() * np.log2(weight.sum()) - counts @ np.log2(weight[: counts.size]))


def encode(groups: Sequence[Symbols], lengths: Sequence[Lengths]) -> bytes:
    """Groups of magnitudes, each with its code lengths -> whole 32-bit words."""
    coder = stream.stack.AnsCoder()
    for symbols, length in zip(reversed(groups), reversed(lengths), strict=True):
        if symbols.size and length.size > 1:
            pairs = np.zeros(-(-symbols.size // 2), np.int32)
            pairs[: symbols.size // 2] = symbols[1::2]
            pairs += symbols[::2] * np.int32(length.size)
            coder.encode_reverse(pairs, _pair_model(length))
    return coder.get_compressed().astype("<u4").tobytes()


def decode(words: bytes, counts: Sequence[int], lengths: Sequence[Lengths]) -> list[Found]:
    """What encode was given, of groups that have so many members. Raises CodecError."""
    try:
        coder = stream.stack.AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
    except ValueError as error:
        raise CodecError(f"entropy-coded words: {error}") from error
    groups = []
    for count, length in zip(counts, lengths, strict=True):
        symbols = np.zeros(count, np.uint8)
        if count and length.size > 1:
            pairs = coder.decode(_pair_model(length), -(-count // 2)).astype(np.uint16)
            symbols[::2] = first = pairs // np.uint16(length.size)
            first *= np.uint16(length.size)
            symbols[1::2] = (pairs - first)[: count // 2]
        groups.append(symbols)
    if not coder.is_empty():
        raise CodecError("entropy-coded words are left over")
    return groups


def _pair_model(lengths: Lengths) -> Any:
    """Of two magnitudes as one symbol: the coder's time is by the symbol."""
    weight = weights(lengths)
    return stream.model.Categorical(np.multiply.outer(weight, weight).reshape(-1), perfect=False)
