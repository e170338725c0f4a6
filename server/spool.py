"""Bytes kept in an unlinked file: not in memory, and gone with the process whatever ends it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_BLOCK_BYTES = 256 * 1024


class Spool:
    """An append-only file in `folder` that has no name. Raises OSError when the disk is full."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self.size = 0

    def append(self, data: bytes) -> None:
        """All of `data`; what was there before stays whole if that fails."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file.fileno(), view, self.size)
            self.size += written
            view = view[written:]

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes."""
        return os.pread(self._file.fileno(), count, offset)

    def blocks(self) -> Iterator[bytes]:
        """Everything, from the first byte on."""
        for offset in range(0, self.size, _BLOCK_BYTES):
            yield self.read(offset, _BLOCK_BYTES)

    def close(self) -> None:
        """Give its space back."""
        self._file.close()
