"""What lies in bytes under an encoding that can be undone unasked: compressed, base64, an image file.

Looked for by its first bytes at every place, so that it is found inside a payload of any make. Not undone are
encryption, other compressors, and whatever changes the values (a lossy image of a drawing is another).
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator

import zstandard
from PIL import Image, UnidentifiedImageError

_DEPTH = 3
"""An image file in base64 in a compressed message is found, and nothing wrapped more often."""

_LEAST_BYTES = 8
"""What is shorter cannot be told from chance."""

_PIECE = 1 << 20
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")
_ZIP = re.compile(rb"PK\x03\x04")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
_IMAGES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)
_MOST_PIXELS = 1 << 24
_LONGEST_FILE = 1 << 22
_ZIP_HEADER = struct.Struct("<4s5H3I2H")


class TooLargeError(ValueError):
    """What is hidden is longer than may be searched."""


def uncover(data: bytes, most_bytes: int, depth: int = _DEPTH) -> Iterator[bytes]:
    """Everything found under encodings in `data`, and in what is found. Raises TooLargeError.

    What a damaged or mistaken beginning gives is given too, as far as it goes.
    """
    left = most_bytes
    for found in _uncover_once(data, most_bytes):
        if len(found) < _LEAST_BYTES:
            continue
        left -= len(found)
        if left < 0:
            raise TooLargeError(f"what is compressed becomes longer than {most_bytes} bytes")
        yield found
        if depth > 1:
            for inner in uncover(found, left, depth - 1):
                left -= len(inner)
                yield inner


def _uncover_once(data: bytes, most_bytes: int) -> Iterator[bytes]:
    view = memoryview(data)
    for place in _places(_ZLIB, data):
        yield _inflate(zlib.decompressobj(47), view[place:], most_bytes)
    for place in _places(_ZIP, data):
        if place + _ZIP_HEADER.size <= len(data):
            _, _, _, method, *_, name, extra = _ZIP_HEADER.unpack_from(data, place)
            start = place + _ZIP_HEADER.size + name + extra
            if method == zipfile.ZIP_DEFLATED:
                yield _inflate(zlib.decompressobj(-15), view[start:], most_bytes)
    for place in _places(_ZSTD, data):
        yield _unzstd(view[place:], most_bytes)
    for match in _BASE64.finditer(data):
        text = match[0].rstrip(b"=")
        for shift in range(4):  # It may follow a letter that is not part of it.
            part = text[shift:]
            part = part[: len(part) - (len(part) % 4 == 1)]
            try:
                yield base64.b64decode(part + b"=" * (-len(part) % 4))
            except binascii.Error:
                continue
    for place in _places(_IMAGES, data):
        end = place + _LONGEST_FILE
        if data.startswith(b"\x89PNG", place):
            end = data.find(b"IEND", place, end) + 8  # Its checksum follows.
        yield _pixels(data[place:end])


def _places(pattern: re.Pattern[bytes], data: bytes) -> list[int]:
    return [match.start() for match in pattern.finditer(data)]


def _inflate(reader: zlib._Decompress, data: memoryview, most_bytes: int) -> bytes:
    """A deflated stream from its beginning on; short of the first error."""
    out = bytearray()
    try:
        for at in range(0, len(data), _PIECE):
            piece: bytes | memoryview = data[at : at + _PIECE]
            while piece and not reader.eof:
                out += reader.decompress(piece, _PIECE)
                piece = reader.unconsumed_tail
                if len(out) > most_bytes:
                    return bytes(out)
            if reader.eof:
                break
    except zlib.error:
        pass
    return bytes(out)


def _unzstd(data: memoryview, most_bytes: int) -> bytes:
    """A Zstandard frame; short of the first error."""
    out = bytearray()
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data) as reader:
            while len(out) <= most_bytes and (piece := reader.read(_PIECE)):
                out += piece
    except zstandard.ZstdError:
        pass
    return bytes(out)


def _pixels(data: bytes) -> bytes:
    """The pixels of the image file that `data` begins with, as RGB rows; nothing if it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > _MOST_PIXELS:
                    return b""
                return image.convert("RGB").tobytes()
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, struct.error):
        return b""
