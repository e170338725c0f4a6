"""Connections that break, or are silent for long: what was under way goes on where it was cut."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from running import INITIAL, LAYOUT, Cable, Federation

from client.synthetic import SyntheticTrainer
from proto.adapter import load_adapter

TRAINED = SyntheticTrainer(LAYOUT, device_index=0, steps=4, examples=10, seed=5)


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
    expected = TRAINED.train(INITIAL, round_number=1).vector
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


@pytest.mark.parametrize("codec", ["fp32", "int8"])
def test_a_connection_cut_in_mid_download_costs_only_what_was_on_its_way(
    federation: Callable[..., Federation], codec: str
) -> None:
    """Cut in the middle of the adapter: the rest comes over the next connection, and no byte of it twice."""
    run = federation("dev0", "--reconnect-grace", 20, "--downlink-codec", codec, "--uplink-codec", codec)
    run.server.wait_for("server_ready")
    payload = {"fp32": 4 * LAYOUT.size, "int8": LAYOUT.size + LAYOUT.size // 32}[codec]
    cable = Cable(run.port, cut_after_down=payload // 2)
    client = run.client("dev0", "--reconnect", 20, port=cable.port)
    assert client.wait() == 0
    assert run.server.wait() == 0
    cable.close()
    assert cable.connections == 2
    first, second = run.server.events("download_start")
    assert first["offset"] == 0
    assert isinstance(second["offset"], int)
    assert payload // 4 < second["offset"] <= payload // 2 + 65536
    assert len(client.events("download_first")) == len(client.events("download_end")) == 1
    [end] = client.events("download_end")
    assert isinstance(end["message_bytes"], int)
    assert end["payload_bytes"] == payload < end["message_bytes"] < 1.01 * payload + 65536
    assert cable.carried[False] < 1.02 * payload + 2 * 65536
    if codec == "fp32":
        expected = TRAINED.train(INITIAL, round_number=1).vector
        _, adapter = load_adapter(run.checkpoints / "round-0001.safetensors")
        np.testing.assert_allclose(adapter, expected, rtol=0, atol=2.0**-23)


def test_a_connection_cut_in_mid_difference_goes_on_with_the_difference(
    federation: Callable[..., Federation],
) -> None:
    """Round 1 brings the adapter, 797 kB; round 2 the difference to it, 205 kB, and is cut in the middle."""
    options = ["--rounds", 2, "--downlink-codec", "int8", "--full-codec", "fp32", "--reconnect-grace", 20]
    run = federation("dev0", *options)
    run.server.wait_for("server_ready")
    full, delta = 4 * LAYOUT.size, LAYOUT.size + LAYOUT.size // 32
    cable = Cable(run.port, cut_after_down=full + delta // 2)
    client = run.client("dev0", "--reconnect", 20, port=cable.port)
    assert client.wait() == 0, client.complaint
    assert run.server.wait() == 0
    cable.close()
    starts = [(e["round"], e["kind"], e["offset"]) for e in run.server.events("download_start")]
    assert [start[:2] for start in starts] == [(1, "full"), (2, "delta"), (2, "delta")]
    assert isinstance(starts[2][2], int) and 0 < starts[2][2] < delta
    ends = client.events("download_end")
    assert [(end["kind"], end["payload_bytes"]) for end in ends] == [("full", full), ("delta", delta)]


def test_a_device_that_was_cut_while_it_trained_does_not_get_the_adapter_again(
    federation: Callable[..., Federation],
) -> None:
    run = federation("dev0", "--reconnect-grace", 20)
    run.server.wait_for("server_ready")
    cable = Cable(run.port)
    client = run.client("dev0", "--reconnect", 20, "--seconds-per-step", 0.5, port=cable.port)
    client.wait_for("compute_start")
    cable.cut()
    assert client.wait() == 0
    cable.close()
    assert cable.connections > 1
    assert cable.carried[False] < 1.02 * 4 * LAYOUT.size


def test_a_device_that_is_cut_while_it_trains_is_back_before_it_is_given_up(
    federation: Callable[..., Federation],
) -> None:
    """Four seconds of training, cut at once, a grace of one: it does not wait for the training to end."""
    run = federation("dev0", "--reconnect-grace", 1)
    run.server.wait_for("server_ready")
    cable = Cable(run.port)
    client = run.client("dev0", "--seconds-per-step", 1.0, port=cable.port)
    client.wait_for("compute_start")
    cable.cut()
    time.sleep(1.5)
    cable.cut()  # and once more
    assert client.wait() == 0, client.complaint
    assert run.server.wait() == 0
    cable.close()
    assert run.server.events("round_end")[0]["outcomes"] == {"dev0": "finished"}
    assert cable.carried[False] < 1.02 * 4 * LAYOUT.size


def test_a_run_that_ends_while_a_device_trains_ends_the_device_without_a_complaint(
    federation: Callable[..., Federation],
) -> None:
    run = federation("dev0,dev1", "--close-after", 0.5)
    slow = run.client("dev0", "--seconds-per-step", 0.8, "--reconnect", 5)
    slow.wait_for("connected")
    assert run.client("dev1").wait() == 0
    assert run.server.wait() == 0
    assert slow.wait() == 0, slow.complaint
    assert not slow.events("upload_end")  # Whether it still begins one is a matter of moments.


def test_a_device_that_is_silent_for_many_pings_stays_connected(
    federation: Callable[..., Federation],
) -> None:
    """An hour of training at a ping a minute, in fast motion: some thirty pings, and not one too many."""
    run = federation("dev0", "--keepalive", 0.1)
    client = run.client("dev0", "--seconds-per-step", 1.0, "--keepalive", 0.1)
    assert client.wait() == 0
    assert run.server.wait() == 0
    assert not client.events("connection_lost")
    assert len(client.events("connected")) == 1


def test_a_device_that_is_cut_off_without_a_word_is_noticed_and_goes_on(
    federation: Callable[..., Federation],
) -> None:
    """A cable that carries nothing and breaks nothing, as a radio link in a tunnel: pings go unanswered."""
    run = federation("dev0", "--keepalive", 0.5, "--reconnect-grace", 20)
    run.server.wait_for("server_ready")
    cable = Cable(run.port)
    client = run.client(
        "dev0", "--reconnect", 20, "--seconds-per-step", 1.0, "--keepalive", 0.5, port=cable.port
    )
    client.wait_for("compute_start")
    cable.silence()
    assert client.wait() == 0, client.complaint
    cable.close()
    assert run.server.wait() == 0
    assert client.events("connection_lost")
    assert run.server.events("round_end")[0]["outcomes"] == {"dev0": "finished"}
