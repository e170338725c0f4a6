"""A device's images and captions as one payload: a zip archive whose members are stored as they are.

An `imagefolder`: metadata.jsonl, then the images' files. Nothing is compressed: PNG and JPEG do not get
smaller, and what the device sends is what it holds. Some 100 bytes an image are the archive's own.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

METADATA = "metadata.jsonl"

_BLOCK_BYTES = 256 * 1024


class Archive:
    """In an unlinked file: not in memory, and gone with the process."""

    cpu_s = 0.0
    """Nothing is encoded."""

    def __init__(self, rows: Sequence[Mapping[str, str]], files: Iterable[bytes]) -> None:
        """A row of metadata for each of `files`, by which it says its `file_name`."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        with zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED) as archive:
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            # A member of ZipInfo's own date: the same data, the same bytes.
            archive.writestr(zipfile.ZipInfo(METADATA), lines.encode())
            for row, content in zip(rows, files, strict=True):
                archive.writestr(zipfile.ZipInfo(row["file_name"]), content)
        self.payload_bytes = self._file.seek(0, os.SEEK_END)

    def pieces(self, offset: int = 0) -> Iterator[bytes]:
        """From byte `offset` on."""
        while block := os.pread(self._file.fileno(), _BLOCK_BYTES, offset):
            yield block
            offset += len(block)
