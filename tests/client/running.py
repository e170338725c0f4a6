"""Servers and clients as processes, and a cable between them that can be cut."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from client.sd15 import sd15_lora_layout
from client.synthetic import initial_adapter

ROOT = Path(__file__).parents[2]
LAYOUT = sd15_lora_layout(1)  # 199,296 values, 797 kB in fp32
INITIAL = initial_adapter(LAYOUT, seed=0)
TASK = {"trainer": "synthetic", "rank": 1, "steps": 4, "examples": 10, "seed": 5}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Running:
    """A server or client process and what it leaves behind."""

    process: subprocess.Popen[str]
    log: Path
    said: Path

    def wait(self, timeout: float = 40) -> int:
        return self.process.wait(timeout)

    @property
    def complaint(self) -> str:
        """All that it wrote to standard error."""
        return self.said.read_text()

    def events(self, event: str) -> list[dict[str, object]]:
        """Its events of one kind."""
        if not self.log.exists():
            return []
        records = map(json.loads, self.log.read_text().splitlines())
        return [record for record in records if record["event"] == event]

    def wait_for(self, event: str) -> None:
        """Until it has written such an event."""
        limit = time.monotonic() + 30
        while not self.events(event):
            assert time.monotonic() < limit, f"no {event}: {self.complaint}"
            time.sleep(0.02)


@dataclass
class Federation:
    """A server and how to start its clients."""

    server: Running
    port: int
    checkpoints: Path
    spawn: Callable[..., Running]

    def client(self, name: str, *options: object, port: int = 0) -> Running:
        address = f"127.0.0.1:{port or self.port}"
        return self.spawn("client", "--server", address, "--id", name, *options, name=name)


def assert_one_line(running: Running, *words: str) -> None:
    [line] = running.complaint.splitlines()
    assert line.startswith("client: ")
    for word in words:
        assert word in line


class Cable:
    """A TCP connection between client and server that can be cut: what a radio link does now and then."""

    def __init__(self, server_port: int, cut_after_up: int = 0, cut_after_down: int = 0) -> None:
        self._server_port = server_port
        self._cut_after = {True: cut_after_up, False: cut_after_down}
        self.carried = {True: 0, False: 0}
        """Bytes up and down, over all connections."""
        self._silent: set[socket.socket] = set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Everything that is connected now loses its connection; new ones are let through."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with_reset(end)

    def silence(self) -> None:
        """What is connected now carries nothing any more, and nobody is told; new connections work."""
        self._silent.update(end for pair in self._pairs for end in pair)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # The cable is gone.
            try:
                server = socket.create_connection(("127.0.0.1", self._server_port))
            except OSError:
                client.close()
                continue
            self.connections += 1
            self._pairs.append((client, server))
            threading.Thread(target=self._carry, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(server, client, False), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        carried = 0
        try:
            while data := source.recv(65536):
                if source in self._silent:
                    continue
                sink.sendall(data)
                carried += len(data)
                self.carried[up] += len(data)
                if 0 < self._cut_after[up] < carried:
                    self._cut_after[up] = 0
                    time.sleep(1.5)  # A busy server reads what has come before the line goes dead.
                    self.cut()
        except OSError:
            return
        with_reset(sink)


def with_reset(end: socket.socket) -> None:
    """Close a socket at once, for both of its users."""
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
    finally:
        end.close()
