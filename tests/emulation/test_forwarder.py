"""The forwarder between sockets on the loopback: every byte, both ways, to the end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from emulation import forwarder


@contextmanager
def forwarding(port: int) -> Iterator[int]:
    """A forwarder to this port of the loopback; gives its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    command = [sys.executable, "-m", "emulation.forwarder", str(listener.fileno()), f"127.0.0.1:{port}"]
    with listener, subprocess.Popen(command, pass_fds=[listener.fileno()]) as process:
        try:
            yield listener.getsockname()[1]
        finally:
            process.kill()


def test_megabytes_go_through_and_an_end_is_passed_on() -> None:
    sent = bytes(range(256)) * 20_000
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        forwarding(server.getsockname()[1]) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as near,
    ):
        server.settimeout(10)
        far, _ = server.accept()
        with far:
            far.settimeout(10)
            far.sendall(b"welcome")
            assert near.recv(7, socket.MSG_WAITALL) == b"welcome"
            received = bytearray()
            near.setblocking(False)
            rest = memoryview(sent)
            while len(received) < len(sent):
                if rest:
                    with suppress(BlockingIOError):
                        rest = rest[near.send(rest) :]
                    if not rest:
                        near.shutdown(socket.SHUT_WR)
                with suppress(BlockingIOError):
                    received += far.recv(1 << 20, 0 if not rest else socket.MSG_DONTWAIT)
            assert received == sent
            assert far.recv(1) == b""  # Its end came through, and the other direction still works:
            far.sendall(b"goodbye")
            near.settimeout(10)
            assert near.recv(7, socket.MSG_WAITALL) == b"goodbye"


def test_where_nobody_listens_the_connection_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with forwarding(port) as way, socket.create_connection(("127.0.0.1", way), timeout=10) as near:
        assert near.recv(1) == b""


def test_a_side_that_breaks_ends_the_other() -> None:
    async def scenario() -> bytes:
        async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        server = await asyncio.start_server(reset, "127.0.0.1", 0)
        target = server.sockets[0].getsockname()
        way = await asyncio.start_server(lambda r, w: forwarder.carry(target, r, w), "127.0.0.1", 0)
        reader, _ = await asyncio.open_connection(*way.sockets[0].getsockname())
        return await asyncio.wait_for(reader.read(), timeout=10)

    assert asyncio.run(scenario()) == b""
