"""Training data that devices send as they are: bytes to the server, a file of each device in a folder.

What is in them is the business of who trains on them. Limits are checked before anything is taken: how much a
device may send, and what the disk has room for beside what other devices have announced.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

from proto.federation_pb2 import STATUS_NO_SPACE
from server.aggregation.fedavg import Tally
from server.devices import Refusal
from server.incoming import Incoming, Wanted

RAW = "raw"
"""In place of a codec's name: what is sent is in none."""

SUFFIX = ".data"


class Collection:
    """The files in `folder`, which is made; `limit_bytes`: the most of one device."""

    def __init__(self, folder: Path, limit_bytes: int, executor: Executor) -> None:
        self._folder, self._limit, self._executor = folder, limit_bytes, executor
        self._coming: list[DataUpload] = []
        folder.mkdir(parents=True, exist_ok=True)

    def wanted(self, name: str) -> Wanted:
        """What is taken of device `name`."""
        because = f"the server takes {self._limit} of a device"
        return Wanted(RAW, self._limit, because, partial(self._begin, name))

    def _begin(self, name: str, payload_bytes: int, total: Tally | None, weight: int) -> DataUpload:
        self._coming = [upload for upload in self._coming if not upload.closed.is_set()]
        announced = sum(upload.missing_bytes for upload in self._coming)
        room = shutil.disk_usage(self._folder).free - announced
        if payload_bytes > room:
            raise Refusal(STATUS_NO_SPACE, f"{payload_bytes} bytes of data, the server has room for {room}")
        upload = DataUpload(self._folder / f"{name}{SUFFIX}", payload_bytes, weight, self._executor)
        self._coming.append(upload)
        return upload


class DataUpload(Incoming):
    """`payload_bytes` that become the file `path`, all of them or none."""

    def __init__(self, path: Path, payload_bytes: int, weight: int, executor: Executor) -> None:
        super().__init__(payload_bytes, weight, executor)
        self._path, self._size = path, payload_bytes
        handle, partial_name = tempfile.mkstemp(".partial", f".{path.name}-", path.parent)
        self._file, self._partial = os.fdopen(handle, "wb", buffering=0), Path(partial_name)

    @property
    def missing_bytes(self) -> int:
        """What has been announced and has not come."""
        return self._size - self.received

    @property
    def _complete(self) -> bool:
        return self.received == self._size

    def _use(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def keep(self, *, bytes_too: bool = False) -> None:
        """It is the device's file now."""
        self.closed.set()
        self._file.close()
        self._partial.replace(self._path)

    async def detach(self) -> None:
        """Nothing has been done with it yet."""

    async def discard(self) -> None:
        """As Incoming.discard."""
        if not self.closed.is_set():
            self.closed.set()
            await self._schedule(partial(self._in_thread, self._forget))

    def _forget(self) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)
