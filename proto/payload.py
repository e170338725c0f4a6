"""A payload in transit: cut into checksummed chunks, taken in order, limits checked first."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from proto.federation_pb2 import Chunk

CHUNK_BYTES = 64 * 1024
"""Small enough to overlap with the link, large enough that framing costs 0.03 %; 1 MiB gains nothing."""


class PayloadError(ValueError):
    """A chunk that does not belong where it claims to, or is damaged."""


def chunks(pieces: Iterable[bytes], start: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """A payload's bytes from offset `start` on, in pieces of any length -> chunks with CRC-32 checksums."""
    waiting, offset = bytearray(), start
    for piece in pieces:
        waiting += piece
        while len(waiting) >= chunk_bytes:
            yield _chunk(bytes(waiting[:chunk_bytes]), offset)
            del waiting[:chunk_bytes]
            offset += chunk_bytes
    if waiting:
        yield _chunk(bytes(waiting), offset)


def _chunk(data: bytes, offset: int) -> Chunk:
    return Chunk(offset=offset, crc32=zlib.crc32(data), data=data)


class Intake:
    """Takes a payload's chunks in order, up to a length agreed beforehand; holds none of their bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.received = 0

    def accept(self, chunk: Chunk) -> bytes:
        """The bytes that the next chunk adds; none if it came before, so that a retry is harmless.

        Raises PayloadError on a wrong checksum, a gap, or bytes beyond the agreed length.
        """
        end = chunk.offset + len(chunk.data)
        if end > self._most:
            raise PayloadError(f"chunk ends at byte {end} of {self._most}")
        if zlib.crc32(chunk.data) != chunk.crc32:
            raise PayloadError(f"checksum of the chunk at byte {chunk.offset} is wrong")
        if end <= self.received:
            return b""
        if chunk.offset != self.received:
            raise PayloadError(f"chunk at byte {chunk.offset}, expected byte {self.received}")
        self.received = end
        return chunk.data
