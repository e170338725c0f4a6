"""ecq(bits): entropy-coded trellis quantisation, about 0.09 bits a value from what is possible.

The bound is Shannon's for Gaussian values, a mean square error of 2^(-2 bits) times their mean square;
rounding with an entropy coder stays 0.25 bits above it. Here
1. a trellis chooses each value's point (proto/codecs/trellis.py): 0.19 bits of those 0.25;
2. only magnitudes are sent, entropy coded by the distribution they turn out to have (magnitudes.py). The sign
   costs nothing: of the two points of a magnitude the automaton allows one, which the decoder knows too;
3. rows of values that differ in size fall into four classes, each with its own distribution, all with one
   step, whose width makes the payload as long as asked for (ecq_step.py);
4. each magnitude becomes the mean of the values that it stands for, which are less on average.

ecq(bits,unbiased) adds a dither (dither.py) and leaves 4 out, so that the mean over the dither is the vector
itself. The least that such an error can be is 1 / (2^(2 bits) - 1): the rate of a Gaussian channel that adds
it.

Example: .7 .1 -.9 steps of one lane become the points .5 .5 -1.5 (m = 0 0 -2); sent are the magnitudes 0 0 1.

Payload: step (float32), counts of words and of far values, kinds; [the dither's seed;] [a class for each
row, 2 bits;] for each class its largest magnitude, a table of code lengths, [shifts of its points, 1/64 step
each;] [the sizes of all groups;] far values (beyond 250 steps) with their places, as they are; entropy-coded
words.

Sources: Fischer and Wang, Entropy-constrained trellis-coded quantization, IEEE Trans. Inf. Theory 38, 1992;
Joshi, Crump and Fischer, IEEE Trans. Image Processing 4, 1995 (classes); ISO/IEC 15444-2 (in JPEG 2000).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from proto.adapter import Vector
from proto.codecs import ecq_groups, magnitudes, trellis
from proto.codecs.codec import CodecError, check_finite
from proto.codecs.dither import Dither
from proto.codecs.ecq_source import CLASSES, FEW_VALUES, SIDE_SHARE, Quantised, Shape, Source
from proto.codecs.magnitudes import Found, Lengths
from proto.codecs.packing import pack, packed_bytes, unpack
from proto.codecs.reader import Reader
from proto.codecs.shared_random import SEED_BYTES
from proto.codecs.trellis import FIXED_ONE, Bits

LEAST_BITS, MOST_BITS = 0.5, 6.0
_LARGEST = 1e35
_LARGEST_STEP = 1e36
_SHIFTED_POINTS = 12
"""Magnitudes beyond are shifted as the last of them: they are rare."""
_SHIFT_UNIT = 64
_MANY_ROWS = 64
"""Of more, every other one says well enough how points are to be shifted."""
_HEADER = struct.Struct("<fIHB")
_FAR = np.dtype([("place", "<u4"), ("value", "<f4")])
_CLASS_BITS = 2
_CLOSE_BITS = 0.03
_MOST_FAR = 0xFFFF
_CORRECTIONS = 3
_SLACK_BITS = 0.5


class Ecq:
    """Least error, or unbiased; `bits` a parameter, 0.5 to 6, whatever the values."""

    fixed_length = False

    def __init__(self, bits: float, variant: str = "nearest") -> None:
        if isinstance(bits, str) or not LEAST_BITS <= bits <= MOST_BITS:
            raise CodecError(f"codec ecq: bits must be a number, {LEAST_BITS:g} to {MOST_BITS:g}, not {bits}")
        if variant not in ("nearest", "unbiased"):
            raise CodecError(f"codec ecq: after the bits only 'unbiased' can follow, not '{variant}'")
        self.bits_per_parameter = float(bits)
        self.unbiased = variant == "unbiased"
        self.wants_error_feedback = not self.unbiased
        self.name = f"ecq({bits:g},unbiased)" if self.unbiased else f"ecq({bits:g})"
        self._code = trellis.FINE if self.unbiased else trellis.FAST
        # Where steps are small beside the values, it hardly matters where between its points zero lies, and
        # the values of a cell hardly lean to one side.
        self._phase_bits = (2 if bits < 1.25 else 1 if bits < 2.5 else 0) if self.unbiased else 0
        self._shifted = not self.unbiased and bits < 3.5

    def encoded_bytes(self, size: int) -> int:
        if not size:
            return 0
        table = 1 + magnitudes.knots(magnitudes.LARGEST).size + _SHIFTED_POINTS
        side = _HEADER.size + SEED_BYTES + Shape.of(size).steps + CLASSES * (table + (4 << self._phase_bits))
        return side + int((self.bits_per_parameter + _SLACK_BITS) * size / 8) + 64

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        check_finite(self, vector)
        if not vector.size:
            return b""
        peak = float(max(vector.max(), -vector.min()))
        if peak > _LARGEST:
            raise CodecError(f"{self.name}: value {peak:g} is beyond {_LARGEST:g}")
        if peak == 0:
            return _HEADER.pack(0, 0, 0, 0)
        seed = rng.bytes(SEED_BYTES) if self.unbiased else b""
        dither = Dither(seed, Shape.of(vector.size)) if self.unbiased else None
        source = Source(vector, peak, dither, self._phase_bits, self._code)
        step = source.step(self.bits_per_parameter, self._side_bytes)
        search = source.search(self.bits_per_parameter)
        coded = source.quantise(step)
        payload, made = self._pack(vector, coded, seed)
        for _ in range(_CORRECTIONS if vector.size >= FEW_VALUES else 0):
            if abs(made - self.bits_per_parameter) < _CLOSE_BITS:
                break
            step = search.better(step, made)
            coded = source.quantise(step)
            payload, made = self._pack(vector, coded, seed)
        while len(payload) > self.encoded_bytes(vector.size) or coded.far.size > _MOST_FAR:
            step = search.wider(step)
            coded = source.quantise(step)
            payload, _ = self._pack(vector, coded, seed)
        return payload

    def decode(self, payload: bytes, size: int) -> Vector:
        if len(payload) > self.encoded_bytes(size):
            raise CodecError(
                f"{self.name}: {len(payload)} bytes, {size} values make {self.encoded_bytes(size)}"
            )
        if not size:
            return np.empty(0, np.float32)
        reader = Reader(self.name, payload)
        step, words, far_count, class_count = _HEADER.unpack(reader.take(_HEADER.size))
        if not 0 <= step <= _LARGEST_STEP:
            raise CodecError(f"{self.name}: step {step}")
        if step == 0:
            reader.finish()
            return np.zeros(size, np.float32)
        shape = Shape.of(size)
        dither = Dither(reader.take(SEED_BYTES), shape) if self.unbiased else None
        classes = _take_classes(reader, class_count, shape.steps)
        tables = [self._take_table(reader) for _ in range(class_count)]
        keys = ecq_groups.keys(classes, shape, dither, self._phase_bits)
        if self._phase_bits:
            counts = reader.array(_count_type(size), class_count << self._phase_bits).astype(np.int64)
        else:
            counts = np.bincount(classes, minlength=class_count) * shape.lanes
            counts[classes[-1]] -= shape.steps * shape.lanes - size
        if counts.sum() != size:
            raise CodecError(f"{self.name}: {counts.sum()} values in all groups, not {size}")
        far = reader.array(_FAR, far_count)
        coded = reader.take(4 * words)
        reader.finish()
        lengths = [lengths for table in tables for lengths in table.lengths]
        groups = magnitudes.decode(coded, counts.tolist(), lengths)
        found, q = ecq_groups.put_back(groups, keys, size, dither, self._phase_bits, self._code)
        vector = _points(found, q, classes, tables, dither, np.float32(step)).reshape(-1)[:size]
        if far_count:
            if far["place"].max() >= size:
                raise CodecError(f"{self.name}: far value {far['place'].max()} of {size}")
            vector[far["place"]] = far["value"]
        check_finite(self, vector)
        return vector

    def _pack(self, vector: Vector, coded: Quantised, seed: bytes) -> tuple[bytes, float]:
        """The payload, and how many bits a value it takes, small vectors' share of the side reckoned as
        small."""
        class_count = int(coded.classes.max()) + 1
        phases = 1 << self._phase_bits
        groups = ecq_groups.sort_out(coded.magnitudes, coded.groups, vector.size, class_count * phases)
        parts = [seed, _classes_bytes(coded.classes, class_count)]
        lengths: list[Lengths] = []
        for index in range(class_count):
            members = groups[index * phases : (index + 1) * phases]
            counts = np.bincount(np.concatenate(members) if phases > 1 else members[0], minlength=1)
            table = magnitudes.to_table(counts)
            parts += [bytes([counts.size - 1]), table.tobytes()]
            if self._shifted:
                parts.append(_shifts(coded, index, counts.size - 1, vector.size).tobytes())
            lengths += _lengths(table, counts.size - 1, self._phase_bits)
        if self._phase_bits:
            parts.append(np.array([group.size for group in groups], _count_type(vector.size)).tobytes())
        words = magnitudes.encode(groups, lengths)
        header = _HEADER.pack(coded.step, len(words) // 4, min(coded.far.size, _MOST_FAR), class_count)
        side = len(header) + sum(map(len, parts))
        far = np.empty(coded.far.size, _FAR)
        far["place"], far["value"] = coded.far, vector[coded.far]
        payload = b"".join([header, *parts, far.tobytes(), words])
        reckoned = min(side, SIDE_SHARE / 8 * self.bits_per_parameter * vector.size)
        return payload, 8 * (len(payload) - side + reckoned) / vector.size

    def _side_bytes(self, class_count: int) -> float:
        """About what goes beside the entropy-coded words."""
        largest = int(2.5 * 2**self.bits_per_parameter)
        table = 1 + magnitudes.knots(largest).size + min(largest, _SHIFTED_POINTS) * self._shifted
        groups = 2 << self._phase_bits if self._phase_bits else 0
        classes = 32 if class_count > 1 else 0
        return _HEADER.size + SEED_BYTES * self.unbiased + classes + class_count * (table + groups) + 6

    def _take_table(self, reader: Reader) -> _Table:
        largest = reader.take(1)[0]
        if largest > magnitudes.LARGEST:
            raise CodecError(f"{self.name}: a magnitude of {largest}, {magnitudes.LARGEST} is the largest")
        table = reader.array(np.dtype(np.uint8), magnitudes.knots(largest).size)
        points = np.arange(0.5, largest + 1, dtype=np.float32)
        if self._shifted:
            shifts = reader.array(np.dtype(np.int8), min(largest + 1, _SHIFTED_POINTS))
            points[: shifts.size] += shifts / np.float32(_SHIFT_UNIT)
            points[shifts.size :] += shifts[-1] / np.float32(_SHIFT_UNIT)
        return _Table(_lengths(table, largest, self._phase_bits), points)


class _Table(NamedTuple):
    """What is sent of a class: a code for each phase, and the distance of points from zero, in steps."""

    lengths: list[Lengths]
    points: Vector


def _count_type(size: int) -> np.dtype[Any]:
    """Of the sizes of groups."""
    return np.dtype("<u2" if size < 1 << 16 else "<u4")


def _lengths(table: NDArray[np.uint8], largest: int, phase_bits: int) -> list[Lengths]:
    """The code of each phase: in the middle of its part of 0 .. 1, rho is so much more than 1/2."""
    phases = 1 << phase_bits
    shifts = [magnitudes.SHIFT_UNIT * (2 * phase + 1 - phases) // (2 * phases) for phase in range(phases)]
    return [magnitudes.code_lengths(table, largest, shift) for shift in shifts]


def _classes_bytes(classes: Bits, class_count: int) -> bytes:
    """Two bits a row, nothing where all are alike."""
    return pack(classes, _CLASS_BITS) if class_count > 1 else b""


def _take_classes(reader: Reader, class_count: int, steps: int) -> Bits:
    if not 1 <= class_count <= CLASSES:
        raise CodecError(f"{reader.name}: {class_count} classes")
    if class_count == 1:
        return np.zeros(steps, np.uint8)
    classes = unpack(reader.array(np.dtype(np.uint8), packed_bytes(steps, _CLASS_BITS)), _CLASS_BITS, steps)
    if classes.max() >= class_count:
        raise CodecError(f"{reader.name}: class {classes.max()} of {class_count}")
    return classes


def _shifts(coded: Quantised, index: int, largest: int, size: int) -> NDArray[np.int8]:
    """Where between two points the values of class `index` lie on average, for its first magnitudes."""
    rows = np.flatnonzero(coded.classes == index)
    if rows[-1] == coded.classes.size - 1 and coded.magnitudes.size > size:
        rows = rows[:-1]  # It has places that no value fills.
    rows = rows[:: 2 if rows.size > _MANY_ROWS else 1]
    found, errors = coded.magnitudes[rows].reshape(-1), coded.errors[rows].reshape(-1)
    sums = np.bincount(found, errors, largest + 1)[:_SHIFTED_POINTS]
    counts = np.bincount(found, minlength=largest + 1)[:_SHIFTED_POINTS]
    means = sums / np.maximum(counts, 1) / FIXED_ONE
    return np.clip(np.rint(_SHIFT_UNIT * means), -128, 127).astype(np.int8)


def _points(
    found: Found, q: Bits, classes: Bits, tables: Sequence[_Table], dither: Dither | None, step: np.float32
) -> Vector:
    """Magnitudes and parities, (steps, lanes) -> values; each sum and product is rounded once, in this
    order."""
    if dither is not None:
        return dither.points(found, q) * step
    widest = max(table.points.size for table in tables)
    points = np.zeros((len(tables), widest), np.float32)
    for row, table in zip(points, tables, strict=True):
        row[: table.points.size] = table.points * step
    index = found + (classes.astype(np.int32) * np.int32(widest))[:, None] if len(tables) > 1 else found
    values = points.reshape(-1).take(index)
    # Points of even magnitude are positive where m is even, those of odd magnitude where it is odd.
    values.view(np.uint32)[...] ^= (found.astype(np.uint32) ^ q) << np.uint32(31)
    return values
