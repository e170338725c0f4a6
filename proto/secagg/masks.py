"""Masks: pseudorandom ring elements that hide a vector, added and subtracted by the seeds they grow from.

    y_u = x_u + PRG(b_u) + sum_{v > u} PRG(s_uv) - sum_{v < u} PRG(s_uv)   mod 2^b

(Bonawitz et al. 2017, section 4.) PRG is AES-128 in counter mode, whose stream can be taken up anywhere: so a
vector is masked segment by segment, and a segment again when a cut upload goes on, without a mask in memory.
An element takes 16 bits of the stream in rings of up to 16 bits, and 32 in wider ones; as 2^b divides 2^16
and 2^32, the lowest b of them are uniform.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from proto.codecs.wide import Wide

LARGEST_RING_BITS = 32
_BLOCK_BYTES = 16


class Masks:
    """Masks in Z_2^`ring_bits` that grow from `signed_seeds`: (1 or -1, 16 bytes)."""

    def __init__(self, signed_seeds: Sequence[tuple[int, bytes]], ring_bits: int) -> None:
        self._signed_seeds = tuple(signed_seeds)
        self._word = np.dtype("<u2" if ring_bits <= 16 else "<u4")

    def __len__(self) -> int:
        return len(self._signed_seeds)

    def add(self, elements: Wide, start: int) -> None:
        """Add to `elements`, in place, the masks of elements `start` and following.

        Modulo 2^32: the upper bits of an element are to be cut off when all is added.
        """
        for sign, seed in self._signed_seeds:
            if sign > 0:
                elements += self._stream(seed, start, elements.size)
            else:
                elements -= self._stream(seed, start, elements.size)

    def _stream(self, seed: bytes, start: int, count: int) -> NDArray[np.unsignedinteger]:
        block, skipped = divmod(start * self._word.itemsize, _BLOCK_BYTES)
        counter = modes.CTR(block.to_bytes(_BLOCK_BYTES, "big"))
        zeros = bytes(skipped + count * self._word.itemsize)
        stream = Cipher(algorithms.AES(seed), counter).encryptor().update(zeros)
        return np.frombuffer(stream, self._word, offset=skipped)
