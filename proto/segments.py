"""A vector as its segments: encoded, sent, received, decoded and summed one at a time.

A payload is the encodings of the vector's segments one after the other, each made by the codec by itself with
a generator of its own. So both ends need memory for one segment beside the vector, and a transfer can be
taken up again at any byte: the same segment gives the same bytes.

A codec whose lengths vary has each segment preceded by its length, an unsigned 32-bit little-endian number.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from proto.adapter import Vector
from proto.codecs import Codec, CodecError

SEGMENT_VALUES = 2**15
"""A multiple of every codec's block; 128 KiB in fp32, so two chunks at most."""

_LENGTH_BYTES = 4


class Segments:
    """How a vector of `size` values is cut for `codec`."""

    def __init__(self, codec: Codec, size: int) -> None:
        self.codec = codec
        self.size = size
        self.count = -(-size // SEGMENT_VALUES)

    @property
    def payload_bytes(self) -> int:
        """The longest a payload can be; exactly how long it is where the codec's lengths are fixed."""
        whole, rest = divmod(self.size, SEGMENT_VALUES)
        total = whole * self.codec.encoded_bytes(SEGMENT_VALUES)
        total += self.codec.encoded_bytes(rest) if rest else 0
        return total if self.codec.fixed_length else total + self.count * _LENGTH_BYTES

    def bounds(self, index: int) -> tuple[int, int]:
        """First value of segment `index`, and the first after it."""
        return index * SEGMENT_VALUES, min((index + 1) * SEGMENT_VALUES, self.size)

    def values(self, index: int) -> int:
        """How many values segment `index` has."""
        start, stop = self.bounds(index)
        return stop - start


class Values(Protocol):
    """A vector of shape (size,), or what is computed when a slice of it is read."""

    @property
    def size(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Vector: ...


class SegmentEncoder:
    """A vector of shape (size,) -> its payload from any byte on, the same bytes each time.

    `seed`: whatever tells this payload from all others (client, round, ...). The vector must not change.
    """

    def __init__(self, codec: Codec, vector: Values, seed: Sequence[int]) -> None:
        self.segments = Segments(codec, vector.size)
        self.cpu_s = 0.0
        """Processor time spent encoding, in seconds."""
        self._vector = vector
        self._seed = tuple(seed)
        self._starts = [0]
        """Where each segment encoded so far begins, and where the next will."""

    @property
    def payload_bytes(self) -> int:
        """As Segments.payload_bytes."""
        return self.segments.payload_bytes

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """The payload from byte `offset` on, in pieces of a segment each. Raises CodecError, late maybe."""
        index = min(bisect_right(self._starts, offset), len(self._starts)) - 1
        for number in range(index, self.segments.count):
            piece = self._encode(number)
            start = self._starts[number]
            if number + 1 == len(self._starts):
                self._starts.append(start + len(piece))
            if offset < start + len(piece):
                yield piece[max(0, offset - start) :]

    def _encode(self, index: int) -> bytes:
        began = time.thread_time()
        start, stop = self.segments.bounds(index)
        codec = self.segments.codec
        try:
            encoded = codec.encode(self._vector[start:stop], np.random.default_rng((*self._seed, index)))
        except CodecError as error:
            raise CodecError(f"{error} (from value {start} of {self.segments.size} on)") from error
        self.cpu_s += time.thread_time() - began
        return encoded if codec.fixed_length else len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded


class SegmentDecoder:
    """Bytes of a payload in order -> decoded segments; holds less than one segment and what was fed."""

    def __init__(self, codec: Codec, size: int) -> None:
        self._segments = Segments(codec, size)
        self._waiting = bytearray()
        self._next = 0

    @property
    def complete(self) -> bool:
        """Whether every segment has come."""
        return self._next == self._segments.count

    def feed(self, data: bytes) -> Iterator[tuple[int, Vector]]:
        """Take the next bytes; (first value, values) of each segment they complete.

        Raises CodecError for what no encoder makes, bytes after the last segment included.
        """
        self._waiting += data
        while (encoded := self._take()) is not None:
            start, stop = self._segments.bounds(self._next)
            values = self._segments.codec.decode(encoded, stop - start)
            self._next += 1
            yield start, values

    def _take(self) -> bytes | None:
        """The next segment's encoding, once all of it has come."""
        if self.complete:
            if self._waiting:
                raise CodecError(f"{len(self._waiting)} bytes follow the last segment")
            return None
        codec = self._segments.codec
        head, length = 0, codec.encoded_bytes(self._segments.values(self._next))
        if not codec.fixed_length:
            head, most = _LENGTH_BYTES, length
            if len(self._waiting) < head:
                return None
            length = int.from_bytes(self._waiting[:head], "little")
            if length > most:
                raise CodecError(f"{codec.name}: segment of {length} bytes, its values make {most} at most")
        if len(self._waiting) < head + length:
            return None
        encoded = bytes(self._waiting[head : head + length])
        del self._waiting[: head + length]
        return encoded
