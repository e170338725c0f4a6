"""A payload in transit: cut into checksummed chunks, put together again, limits checked first."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from proto.federation_pb2 import Chunk

CHUNK_BYTES = 64 * 1024
"""Small enough to overlap with the link, large enough that framing costs 0.03 %; 1 MiB gains nothing."""


class PayloadError(ValueError):
    """A chunk that does not belong where it claims to, or is damaged."""


def chunks(payload: bytes, start: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """Cut `payload` from offset `start` on into chunks with CRC-32 checksums."""
    view = memoryview(payload)
    for offset in range(start, len(payload), chunk_bytes):
        data = bytes(view[offset : offset + chunk_bytes])
        yield Chunk(offset=offset, crc32=zlib.crc32(data), data=data)


class Assembler:
    """Chunks in order -> payload of a length agreed beforehand."""

    def __init__(self, total_bytes: int) -> None:
        self._buffer = bytearray(total_bytes)
        self.received = 0

    @property
    def complete(self) -> bool:
        """Whether every byte has come."""
        return self.received == len(self._buffer)

    def add(self, chunk: Chunk) -> None:
        """Take the next chunk; one that came before is ignored, so a retry is harmless.

        Raises PayloadError on a wrong checksum, a gap, or bytes beyond the agreed length.
        """
        end = chunk.offset + len(chunk.data)
        if end > len(self._buffer):
            raise PayloadError(f"chunk ends at byte {end} of {len(self._buffer)}")
        if zlib.crc32(chunk.data) != chunk.crc32:
            raise PayloadError(f"checksum of the chunk at byte {chunk.offset} is wrong")
        if end <= self.received:
            return
        if chunk.offset != self.received:
            raise PayloadError(f"chunk at byte {chunk.offset}, expected byte {self.received}")
        self._buffer[chunk.offset : end] = chunk.data
        self.received = end

    def payload(self) -> bytes:
        """The whole payload. Raises PayloadError while bytes are missing."""
        if not self.complete:
            raise PayloadError(f"{self.received} of {len(self._buffer)} bytes have come")
        return bytes(self._buffer)
