"""Secure aggregation between the real client and the real server: sums as in the open, to the bit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import reduce

import numpy as np
from running import INITIAL, LAYOUT, TASK, Federation

from client.synthetic import SyntheticTrainer
from proto.adapter import Vector, load_adapter
from proto.codecs.ring import Ring
from proto.segments import SegmentDecoder, SegmentEncoder

# Steps of 2^-14: every value of the grid is a float32, and sums of them are exact.
GRID = Ring(8, 127 / 2**14)
OPTIONS = ["--secure-threshold", 0.6, "--no-discordance", "--uplink-codec", GRID.name]


def in_the_open(name: str, adapter: Vector, number: int) -> Vector:
    """The update of a device as its plain `ring` upload is decoded."""
    trainer = SyntheticTrainer(
        LAYOUT, device_index=int(name[-1]), **{k: TASK[k] for k in ("steps", "examples", "seed")}
    )
    update = trainer.train(adapter, round_number=number).vector - adapter
    encoder = SegmentEncoder(GRID, update, (number, *name.encode()))
    decoder = SegmentDecoder(GRID, LAYOUT.size)
    return np.concatenate([values for piece in encoder.pieces() for _, values in decoder.feed(piece)])


def after(adapter: Vector, names: list[str], number: int) -> Vector:
    """The global adapter after a round of these devices, all of the same weight."""
    total = reduce(np.add, (in_the_open(name, adapter, number).astype(np.float64) for name in names))
    return (adapter + total / len(names)).astype(np.float32)


def test_the_adapter_is_that_of_the_open_sum_and_a_killed_device_takes_nothing_with_it(
    federation: Callable[..., Federation],
) -> None:
    names = ["dev0", "dev1", "dev2"]
    run = federation(",".join(names), "--rounds", 2, "--reconnect-grace", 0.3, *OPTIONS)
    clients = {name: run.client(name, "--seconds-per-step", 0.05) for name in names[:2]}
    clients["dev2"] = run.client("dev2", "--seconds-per-step", 0.2)
    limit = time.monotonic() + 30
    while len(clients["dev2"].events("compute_start")) < 2:
        assert time.monotonic() < limit, clients["dev2"].complaint
        time.sleep(0.02)
    os.kill(clients["dev2"].process.pid, signal.SIGKILL)
    assert run.server.wait() == 0, run.server.complaint
    assert [clients[name].wait() for name in names[:2]] == [0, 0]
    ends = [event["outcomes"] for event in run.server.events("round_end")]
    assert ends == [
        dict.fromkeys(names, "finished"),
        {"dev0": "finished", "dev1": "finished", "dev2": "lost"},
    ]
    expected = INITIAL
    for number, sent in ((1, names), (2, names[:2])):
        expected = after(expected, sent, number)
        _, adapter = load_adapter(run.checkpoints / f"round-{number:04d}.safetensors")
        np.testing.assert_array_equal(adapter, expected)
    agreed, revealed = (clients["dev0"].events(event) for event in ("agreed", "revealed"))
    assert [event["devices"] for event in agreed] == [3, 3]
    assert [event["dropped"] for event in revealed] == [0, 1]
    assert all(event["clipped"] == 0 and event["message_bytes"] > 100 for event in revealed)
