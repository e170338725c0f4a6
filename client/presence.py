"""A device stays connected while it trains, though its own thread has no time to look after that.

A connection that broke unnoticed would cost the device its round: the server gives it only so long to return.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

_AGAIN_S = 0.2
_LOOK_S = 0.05


@contextmanager
def presence(stream: Any, connect: Callable[[], tuple[grpc.Channel, Any]]) -> Iterator[None]:
    """While the body runs, replace `stream` when it breaks, and its replacements when those do.

    `connect` returns a channel and a stream that the server takes for the device. It is let go with the body;
    its owner then finds its own stream broken and connects for itself.
    """
    done = threading.Event()
    keeper = threading.Thread(target=_keep, args=(stream, connect, done), daemon=True, name="presence")
    keeper.start()
    try:
        yield
    finally:
        done.set()
        keeper.join()


def _keep(stream: Any, connect: Callable[[], tuple[grpc.Channel, Any]], done: threading.Event) -> None:
    channel: grpc.Channel | None = None
    while _broke(stream, done):
        if channel is not None:
            channel.close()
            channel = None
        try:
            channel, stream = connect()
        except (grpc.RpcError, RuntimeError):
            done.wait(_AGAIN_S)
    if channel is not None:
        channel.close()


def _broke(stream: Any, done: threading.Event) -> bool:
    """Wait until the body is done or the stream ends; whether it broke, rather than came to its end."""
    woken = threading.Event()
    done_or_ended = (done, woken)
    if not stream.add_callback(woken.set):
        woken.set()
    while not any(event.wait(_LOOK_S) for event in done_or_ended):
        pass
    return not done.is_set() and stream.code() is not grpc.StatusCode.OK
