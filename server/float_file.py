"""A float32 vector in an unlinked file: read and written in slices, never in memory as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from proto.adapter import Vector


class FloatFile:
    """A vector of shape (size,), zeros until written, in `folder`. Raises OSError when the disk is full."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        os.ftruncate(self._file.fileno(), 4 * size)

    @classmethod
    def of(cls, folder: Path, vector: Vector) -> FloatFile:
        """A copy of `vector`."""
        file = cls(folder, vector.size)
        file.write(0, vector)
        return file

    def write(self, start: int, values: Vector) -> None:
        """Overwrite what stands from value `start` on."""
        view = memoryview(np.ascontiguousarray(values, np.float32).data).cast("B")
        offset = 4 * start
        while view:
            written = os.pwrite(self._file.fileno(), view, offset)
            offset += written
            view = view[written:]

    def __getitem__(self, part: slice) -> Vector:
        start, stop, _ = part.indices(self.size)
        values = np.empty(max(0, stop - start), np.float32)
        view, offset = memoryview(values.data).cast("B"), 4 * start
        while view:
            count = os.preadv(self._file.fileno(), [view], offset)
            if count == 0:
                raise OSError("a file of the server's own has become shorter")
            offset += count
            view = view[count:]
        return values

    def close(self) -> None:
        """Give its space back."""
        self._file.close()
