"""A whole federation on loopback: `python -m server`, `python -m client`, and what happens between them.

What the server ends up with is computed again here, by hand, from the trainer and FedAvg's definition.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from client.synthetic import SyntheticTrainer, initial_adapter, sd15_lora_layout
from proto.adapter import load_adapter, save_adapter

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


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `python -m server` or `python -m client` with an event log; killed after the test."""
    started: list[Running] = []

    def spawn(module: str, *options: object, name: str = "") -> Running:
        base = tmp_path / (name or module)
        log, said = base.with_suffix(".jsonl"), base.with_suffix(".err")
        command = [sys.executable, "-m", module, "--events", str(log), *map(str, options)]
        with said.open("w") as stderr:
            process = subprocess.Popen(command, cwd=ROOT, stderr=stderr, text=True)
        started.append(Running(process, log, said))
        return started[-1]

    yield spawn
    for running in started:
        running.process.kill()
        running.process.wait()


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


@pytest.fixture
def federation(tmp_path: Path, spawn: Callable[..., Running]) -> Callable[..., Federation]:
    def federation(devices: str, *options: object, task: object = TASK) -> Federation:
        port = free_port()
        save_adapter(tmp_path / "initial.safetensors", LAYOUT, INITIAL)
        server = spawn(
            *("server", "--listen", f"127.0.0.1:{port}", "--devices", devices, "--task", json.dumps(task)),
            *("--initial", tmp_path / "initial.safetensors", "--checkpoints", tmp_path / "adapters"),
            *options,
        )
        return Federation(server, port, tmp_path / "adapters", spawn)

    return federation


def assert_one_line(running: Running, *words: str) -> None:
    [line] = running.complaint.splitlines()
    assert line.startswith("client: ")
    for word in words:
        assert word in line


def test_three_rounds_of_two_clients_are_fedavg_computed_by_hand(
    federation: Callable[..., Federation],
) -> None:
    """fp32 loses nothing on the way, so the last checkpoint is known to the precision of one rounding."""
    run = federation("dev0,dev1", "--rounds", 3)
    clients = [run.client(name) for name in ("dev0", "dev1")]
    assert [client.wait() for client in clients] == [0, 0]
    assert run.server.wait() == 0

    expected = INITIAL
    trainers = [SyntheticTrainer(LAYOUT, device_index=i, steps=4, examples=10, seed=5) for i in (0, 1)]
    for number in (1, 2, 3):
        updates = [t.train(expected, round_number=number).vector - expected for t in trainers]
        mean = np.mean(np.array(updates, np.float64), axis=0)
        expected = (expected + mean).astype(np.float32)
        _, adapter = load_adapter(run.checkpoints / f"round-{number:04d}.safetensors")
        np.testing.assert_allclose(adapter, expected, rtol=0, atol=2.0**-24)
    assert np.abs(expected - INITIAL).max() > 1e-3

    # Every phase of every round is on the client's own record, in order and of the right size.
    for client in clients:
        for event in ("download_first", "download_end", "compute_start", "compute_end", "encode_end"):
            assert [record["round"] for record in client.events(event)] == [1, 2, 3], event
        ends = client.events("upload_end")
        assert [record["status"] for record in ends] == ["STATUS_OK"] * 3
        assert [record["attempts"] for record in ends] == [1] * 3
        assert {record["payload_bytes"] for record in client.events("encode_end")} == {4 * LAYOUT.size}
        assert {record["loss"] for record in client.events("compute_end")} == {None}


def test_a_profile_makes_a_round_as_long_as_the_named_device_takes(
    federation: Callable[..., Federation],
) -> None:
    run = federation("dev0")
    client = run.client("dev0", "--seconds-per-step", 0.25)
    assert client.wait() == 0
    [start], [end] = client.events("compute_start"), client.events("compute_end")
    assert isinstance(start["t"], float)
    assert isinstance(end["t"], float)
    assert 1.0 <= end["t"] - start["t"] < 1.6  # four steps
    assert end["overrun_s"] == 0


def test_real_work_that_outlasts_the_profile_is_an_overrun(federation: Callable[..., Federation]) -> None:
    run = federation("dev0")
    client = run.client("dev0", "--seconds-per-step", 1e-9)
    assert client.wait() == 0
    [end] = client.events("compute_end")
    assert isinstance(end["overrun_s"], float)
    assert end["overrun_s"] > 0


def test_a_server_that_dies_ends_its_clients_in_time_with_one_line(
    federation: Callable[..., Federation],
) -> None:
    """Within --reconnect, and a second or two for the process itself; exit code 1, server named."""
    run = federation("dev0,dev1")
    client = run.client("dev0", "--reconnect", 2)  # dev1 never comes: dev0 waits on its stream.
    client.wait_for("connected")
    killed = time.monotonic()
    run.server.process.kill()
    assert client.wait(timeout=8) == 1
    assert time.monotonic() - killed < 6
    assert_one_line(client, f"no server at 127.0.0.1:{run.port} for 2 s")


def test_no_server_at_all_ends_a_client_in_time_with_one_line(spawn: Callable[..., Running]) -> None:
    port = free_port()
    client = spawn("client", "--server", f"127.0.0.1:{port}", "--id", "dev0", "--reconnect", 1)
    assert client.wait(timeout=8) == 1
    assert_one_line(client, f"no server at 127.0.0.1:{port} for 1 s")


def test_a_client_that_the_run_does_not_know_is_told_so(federation: Callable[..., Federation]) -> None:
    client = federation("dev0,dev1").client("phone")
    assert client.wait() == 1
    assert_one_line(client, "refused phone", "devices: dev0, dev1")
    [failed] = client.events("client_failed")
    assert "refused phone" in str(failed["reason"])


def test_a_client_of_another_rank_is_told_so(federation: Callable[..., Federation]) -> None:
    client = federation("dev0", task={**TASK, "rank": 2}).client("dev0")
    assert client.wait() == 1
    assert_one_line(client, "refused dev0", "same base, rank and target modules")


@pytest.mark.parametrize(
    ("task", "words"),
    [({"trainer": "quantum"}, "unknown trainer 'quantum'"), ({**TASK, "colour": "blue"}, "colour")],
)
def test_a_task_that_the_client_cannot_do_is_one_line(
    federation: Callable[..., Federation], task: object, words: str
) -> None:
    client = federation("dev0", task=task).client("dev0")
    assert client.wait() == 2
    assert_one_line(client, words)


class Cable:
    """A TCP connection between client and server that can be cut: what a radio link does now and then."""

    def __init__(self, server_port: int, cut_after_up: int = 0) -> None:
        self._server_port = server_port
        self._cut_after_up = cut_after_up
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
                sink.sendall(data)
                carried += len(data)
                if up and 0 < self._cut_after_up < carried:
                    self._cut_after_up = 0
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


def test_a_connection_cut_in_mid_upload_costs_only_what_was_on_its_way(
    federation: Callable[..., Federation],
) -> None:
    """Cut after 400 kB of the 797 kB update: the client comes back and goes on where the server stands."""
    run = federation("dev0", "--reconnect-grace", 20)
    run.server.wait_for("server_ready")
    cable = Cable(run.port, cut_after_up=400_000)
    client = run.client("dev0", "--reconnect", 20, port=cable.port)
    assert client.wait() == 0
    assert run.server.wait() == 0
    cable.close()
    assert cable.connections == 2
    starts = client.events("upload_start")
    assert [record["attempt"] for record in starts] == [1, 2]
    assert starts[0]["offset"] == 0
    assert isinstance(starts[1]["offset"], int)
    assert 100_000 < starts[1]["offset"] <= 400_000
    [end] = run.server.events("round_end")
    assert end["outcomes"] == {"dev0": "finished"}
    # The resumed update is whole, bit for bit.
    trained = SyntheticTrainer(LAYOUT, device_index=0, steps=4, examples=10, seed=5)
    expected = trained.train(INITIAL, round_number=1).vector
    _, adapter = load_adapter(run.checkpoints / "round-0001.safetensors")
    np.testing.assert_allclose(adapter, expected, rtol=0, atol=2.0**-23)


def test_a_long_run_may_lose_its_connection_as_well_as_a_short_one(
    federation: Callable[..., Federation],
) -> None:
    """--reconnect is counted from the loss, not from when the client joined: here 2 s, after 3 s of work."""
    run = federation("dev0", "--reconnect-grace", 20)
    run.server.wait_for("server_ready")
    cable = Cable(run.port)
    client = run.client("dev0", "--reconnect", 2, "--seconds-per-step", 0.9, port=cable.port)
    client.wait_for("compute_start")
    time.sleep(3)
    cable.cut()
    code = client.wait()
    cable.close()
    assert code == 0, client.complaint
    assert run.server.wait() == 0
