"""`python -m emulation.forwarder DESCRIPTOR HOST:PORT`: connections from outside a sandbox, carried into it.

A socket stays in the network where it was made, whoever holds it: the listening one, inherited as DESCRIPTOR,
was made on the machine, and what it accepts is carried to HOST:PORT in this process's own network. Bytes are
handed over as they come, in both directions, and no faster than the other side takes them.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from functools import partial

_BLOCK = 1 << 16


async def carry(target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, until both sides have ended or one has broken."""
    try:
        onward_reader, onward_writer = await asyncio.open_connection(*target)
    except OSError as error:
        print(f"forwarder: {target[0]}:{target[1]}: {error}", file=sys.stderr, flush=True)
        writer.close()
        return
    try:
        await asyncio.gather(_pump(reader, onward_writer), _pump(onward_reader, writer))
    except OSError:
        pass  # Broken: both ends learn it by the closing.
    finally:
        writer.close()
        onward_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK):
        writer.write(block)
        await writer.drain()
    writer.write_eof()


async def _serve(listener: socket.socket, target: tuple[str, int]) -> None:
    server = await asyncio.start_server(partial(carry, target), sock=listener, limit=_BLOCK)
    await server.serve_forever()


def main() -> None:
    """Until killed."""
    host, _, port = sys.argv[2].rpartition(":")
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1])), (host, int(port))))


if __name__ == "__main__":
    main()
