"""randk(fraction): values chosen at random, multiplied by size / count, so that the mean is the vector.

Konecny et al., arXiv 1610.05492 (their subsampling), and Wangni et al., arXiv 1710.09854: which values travel
follows from a seed, so their indices cost 8 bytes in all. As unbiased as the codec of the values, and never
for error feedback: as values are scaled up, what is left out would grow from round to round.

Payload: the seed, then the values by their codec.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from proto.adapter import Vector
from proto.codecs.codec import Codec, CodecError, bits_of_gaussian, check_finite
from proto.codecs.indices import Indices
from proto.codecs.shared_random import SEED_BYTES, raw_words
from proto.codecs.sparsifier import Sparsifier


class RandK(Sparsifier):
    """NMSE 1 / fraction - 1 on any vector."""

    wants_error_feedback = False

    def __init__(self, inner: Codec, fraction: float) -> None:
        super().__init__("randk", inner, fraction)
        self.unbiased = inner.unbiased
        self.fixed_length = inner.fixed_length

    @cached_property
    def bits_per_parameter(self) -> float:
        return bits_of_gaussian(self)

    def encoded_bytes(self, size: int) -> int:
        return SEED_BYTES + self.inner.encoded_bytes(self.kept(size))

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        check_finite(self, vector)
        seed = rng.bytes(SEED_BYTES)
        chosen = vector[_chosen(seed, self.kept(vector.size), vector.size)]
        if chosen.size:
            chosen *= np.float32(vector.size / chosen.size)
        return seed + self.inner.encode(chosen, rng)

    def decode(self, payload: bytes, size: int) -> Vector:
        if len(payload) < SEED_BYTES:
            raise CodecError(f"{self.name}: {len(payload)} bytes end before the seed does")
        kept = self.kept(size)
        values = self.inner.decode(payload[SEED_BYTES:], kept)
        vector = np.zeros(size, np.float32)
        vector[_chosen(payload[:SEED_BYTES], kept, size)] = values
        return vector


def _chosen(seed: bytes, count: int, size: int) -> Indices:
    """`count` of `size` indices, increasing, each such set equally likely: where the smallest keys lie."""
    if count == size:
        return np.arange(size)
    keys = raw_words(seed, size)
    return np.flatnonzero(keys < np.partition(keys, count)[count])
