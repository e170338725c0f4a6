"""Training data as a device sends them raw, and as the server's trainer reads what all have sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from client.archive import Archive
from client.collected import collected_files
from client.diffusion.data import DataError, Examples, load_imagefolder


def archive(examples: Examples, data: str) -> Archive:
    """The emoji as PNG files; of an imagefolder, `data`, its own files, byte by byte."""
    suffixes = [".png"] * len(examples) if data == "emoji" else [Path(n).suffix for n in examples.names]
    columns = zip(suffixes, examples.captions, examples.styles, examples.groups, strict=True)
    rows = [
        {"file_name": f"{index:06d}{suffix}", "text": str(text), "style": str(style), "group": str(group)}
        for index, (suffix, text, style, group) in enumerate(columns)
    ]
    return Archive(rows, _files(examples, data))


def _files(examples: Examples, data: str) -> Iterator[bytes]:
    if data != "emoji":
        yield from ((Path(data) / name).read_bytes() for name in examples.names.tolist())
        return
    for image in examples.images:
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        yield png.getvalue()


def read_collected(folder: Path, size: int) -> list[Examples]:
    """What each device has sent, its images scaled as load_imagefolder's. Raises DataError."""
    return [_read(path, size) for path in collected_files(folder)]


def _read(path: Path, size: int) -> Examples:
    try:
        with zipfile.ZipFile(path) as opened:
            if any(member.compress_type != zipfile.ZIP_STORED for member in opened.infolist()):
                raise DataError(f"{path} holds compressed members: nobody here sends such an archive")
            return load_imagefolder(zipfile.Path(opened), size)
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no archive of images: {error}") from error
