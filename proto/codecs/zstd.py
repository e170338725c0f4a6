"""zstd: the bytes of another codec, compressed by Zstandard (RFC 8878); as they are where that does not help.

Payload: 1 and one Zstandard frame that states its content's size, or 0 and the bytes. A frame that claims
more than the codec inside can make is refused before memory is taken for it.
"""

from __future__ import annotations

import numpy as np
import zstandard

from proto.adapter import Vector
from proto.codecs.codec import Codec, CodecError
from proto.codecs.lossless import Lossless

_LEVEL = 3
_PLAIN, _COMPRESSED = b"\0", b"\1"


class Zstd(Lossless):
    """Saves little of what is quantised well (9 % of fp16), more of what has zeros in it."""

    def __init__(self, inner: Codec) -> None:
        super().__init__("zstd", inner)
        self.inner = inner

    def encoded_bytes(self, size: int) -> int:
        return 1 + self.inner.encoded_bytes(size)

    def encode(self, vector: Vector, rng: np.random.Generator) -> bytes:
        plain = self.inner.encode(vector, rng)
        compressed = zstandard.ZstdCompressor(_LEVEL, write_checksum=False).compress(plain)
        return _COMPRESSED + compressed if len(compressed) < len(plain) else _PLAIN + plain

    def decode(self, payload: bytes, size: int) -> Vector:
        kind, stored = payload[:1], payload[1:]
        if kind not in (_PLAIN, _COMPRESSED) or len(payload) > self.encoded_bytes(size):
            raise CodecError(f"{self.name}: {len(payload)} bytes, beginning with {kind!r}")
        return self.inner.decode(self._decompress(stored, size) if kind == _COMPRESSED else stored, size)

    def _decompress(self, frame: bytes, size: int) -> bytes:
        most = self.inner.encoded_bytes(size)
        try:
            claimed = zstandard.frame_content_size(frame)
            if not 0 < claimed <= most:
                raise CodecError(
                    f"{self.name}: a frame of {claimed} bytes, {size} values make {most} at most"
                )
            return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CodecError(f"{self.name}: {error}") from error
