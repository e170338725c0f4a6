"""What lossless stages share: bias and error feedback are those of the codec before them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np

from proto.adapter import Vector
from proto.codecs.codec import Codec, bits_of_gaussian


class Lossless(ABC):
    """Makes the bytes of the codec `inner` fewer, by how much depends on them."""

    fixed_length = False

    def __init__(self, name: str, inner: Codec) -> None:
        self.name = f"{inner.name}|{name}"
        self.unbiased = inner.unbiased
        self.wants_error_feedback = inner.wants_error_feedback

    @cached_property
    def bits_per_parameter(self) -> float:
        return bits_of_gaussian(self)

    @abstractmethod
    def encoded_bytes(self, size: int) -> int:
        """As Codec.encoded_bytes."""

    @abstractmethod
    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        """As Codec.encode."""

    @abstractmethod
    def decode(self, payload: bytes, size: int) -> Vector:
        """As Codec.decode."""
