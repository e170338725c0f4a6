"""A device stays connected while it trains, though its own thread has no time to look after that.

A connection that broke unnoticed would cost the device its round: the server gives it only so long to return.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

_AGAIN_S = 0.2

Connect = Callable[[], tuple[grpc.Channel, Any]]
"""A new channel, and on it a stream that the server takes for the device."""


@contextmanager
def presence(stream: Any, connect: Connect) -> Iterator[None]:
    """While the body runs, replace `stream` when it breaks, and its replacements when those do.

    They are let go with the body; its owner then finds its own stream broken and connects for itself.
    """
    keeper = _Keeper(stream, connect)
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()


class _Keeper(threading.Thread):
    def __init__(self, stream: Any, connect: Connect) -> None:
        super().__init__(name="presence", daemon=True)
        self._stream, self._connect = stream, connect
        self._channel: grpc.Channel | None = None
        self._done = False
        self._woken = threading.Event()

    def stop(self) -> None:
        self._done = True
        self._woken.set()
        self.join()

    def run(self) -> None:
        while self._broke():
            self._let_go()
            try:
                self._channel, self._stream = self._connect()
            except (grpc.RpcError, RuntimeError):
                time.sleep(_AGAIN_S)
        self._let_go()

    def _broke(self) -> bool:
        """Wait until the body is done or the stream ends; whether it broke, rather than came to its end."""
        if not self._stream.add_callback(self._woken.set):
            self._woken.set()
        while not self._done and self._stream.is_active():
            self._woken.wait()
            self._woken.clear()
        return not self._done and self._stream.code() is not grpc.StatusCode.OK

    def _let_go(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
