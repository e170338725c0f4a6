"""A payload of parts whose lengths it tells itself, taken one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from proto.codecs.codec import CodecError


class Reader:
    """Takes a payload's bytes one after the other. Raises CodecError where there are none left."""

    def __init__(self, name: str, payload: bytes) -> None:
        self.name = name
        self._payload = payload
        self._next = 0

    def take(self, count: int) -> bytes:
        taken = self._payload[self._next : self._next + count]
        if len(taken) < count:
            raise CodecError(f"{self.name}: payload ends after {len(self._payload)} bytes")
        self._next += count
        return taken

    def array(self, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def finish(self) -> None:
        if self._next < len(self._payload):
            raise CodecError(f"{self.name}: {len(self._payload) - self._next} bytes too many")
