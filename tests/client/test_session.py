"""A whole federation on loopback: `python -m server`, `python -m client`, and what happens between them.

What the server ends up with is computed again here, by hand, from the trainer and FedAvg's definition.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from running import INITIAL, LAYOUT, TASK, Federation, Running, assert_one_line, free_port

from client.session import Session
from client.synthetic import SyntheticTrainer
from client.upload import Update
from proto.adapter import load_adapter
from proto.events import EventLog


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


def test_the_next_rounds_noise_is_drawn_when_an_update_has_been_sent(tmp_path: Path) -> None:
    trainer = SyntheticTrainer(LAYOUT, device_index=0, steps=4, examples=10, seed=5)
    session = Session("nowhere:1", "dev0", EventLog(tmp_path / "events.jsonl", "dev0"))
    session._trainer = trainer
    session._unsent = Mock(spec=Update, round_number=6)
    session._unsent.send.side_effect = lambda *_, **__: trainer._drawn.clear()
    session._send(Mock())
    assert list(trainer._drawn) == [7]


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
