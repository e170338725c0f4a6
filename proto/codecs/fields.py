"""Payloads that are a few arrays one after the other: the common frame of all quantisers of fixed length."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proto.adapter import Vector
from proto.codecs.codec import check_length
from proto.codecs.packing import packed_bytes

_LARGE = 2**20


@dataclass(frozen=True)
class Field:
    """A part of a payload: `count` symbols of `bits` bits (1 to 8), packed without gaps.

    An array of wider values has `planes` bytes each: their first bytes are alike, their second, ...
    """

    count: int
    bits: int = 8
    planes: int = 1

    @property
    def bytes(self) -> int:
        return packed_bytes(self.count, self.bits)


class FixedLength(ABC):
    """A Codec whose payload is its `fields`. An entropy coder codes each of them by itself."""

    name: str
    unbiased: bool = False
    wants_error_feedback: bool = False
    fixed_length: bool = True

    @abstractmethod
    def fields(self, size: int) -> tuple[Field, ...]:
        """The parts of the payload of `size` values, in order."""

    @abstractmethod
    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """As Codec.encode."""

    @abstractmethod
    def decode(self, payload: bytes, size: int) -> Vector:
        """As Codec.decode."""

    @property
    def bits_per_parameter(self) -> float:
        return 8 * self.encoded_bytes(_LARGE) / _LARGE

    def encoded_bytes(self, size: int) -> int:
        return sum(field.bytes for field in self.fields(size))

    def split(self, payload: bytes, size: int) -> list[NDArray[np.uint8]]:
        """The bytes of each field. Raises CodecError for a payload of another length."""
        check_length(self, payload, size)
        parts, start = [], 0
        for field in self.fields(size):
            parts.append(np.frombuffer(payload, np.uint8, count=field.bytes, offset=start))
            start += field.bytes
        return parts
