"""Central and local training with real clients: what goes up, what is trained, and the same again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from running import INITIAL, LAYOUT, TASK, Cable, Federation

from client.synthetic import SyntheticData, SyntheticTrainer, initial_adapter
from proto.adapter import adapter_file, load_adapter

IMAGES, IMAGE_BYTES = 30, 20_000
RAW_TASK = TASK | {"raw": [IMAGES, IMAGE_BYTES]}


def data_of(device: int) -> bytes:
    return b"".join(SyntheticData(IMAGES * IMAGE_BYTES, (5, device, 0xDA7A)).pieces())


def test_synthetic_data_are_the_same_from_any_byte_on() -> None:
    data = SyntheticData(200_001, (1, 2))
    whole = b"".join(data.pieces())
    assert len(whole) == data.payload_bytes == 200_001
    for offset in (1, 65_535, 65_536, 65_537, 200_000, 200_001):
        assert b"".join(data.pieces(offset)) == whole[offset:]
    assert whole != b"".join(SyntheticData(200_001, (1, 3)).pieces())


def test_the_server_s_trainer_trains_on_what_devices_sent_and_a_cut_costs_only_what_was_on_its_way(
    federation: Callable[..., Federation], tmp_path: Path
) -> None:
    """dev0's data are cut after 250 kB of 600 kB. Both devices end with the trainer's adapter of round 2."""
    collected = tmp_path / "collected"
    options = ["--scheme", "central", "--collected", collected, "--rounds", 2, "--reconnect-grace", 20]
    run = federation("dev0,dev1", *options, task=RAW_TASK)
    run.server.wait_for("server_ready")
    cable = Cable(run.port, cut_after_up=250_000)
    clients = [run.client("dev0", port=cable.port), run.client("dev1")]
    trainer = run.client("trainer", "--collected", collected, "--adapters", run.checkpoints)
    for client in (*clients, trainer):
        assert client.wait() == 0, client.complaint
    assert run.server.wait() == 0
    cable.close()
    for index in range(2):
        assert (collected / f"dev{index}.data").read_bytes() == data_of(index)
    assert cable.connections == 2 and cable.carried[True] < 600_000 + 100_000
    starts = run.server and clients[0].events("upload_start")
    assert starts[0]["offset"] == 0 and int(str(starts[1]["offset"])) > 100_000
    # As many steps as both devices' together, from the run's initial adapter on.
    expected = SyntheticTrainer(LAYOUT, device_index=2, steps=8, examples=10, seed=5)
    adapter = INITIAL
    for number in (1, 2):
        adapter = expected.train(adapter, round_number=number).vector
        _, written = load_adapter(adapter_file(run.checkpoints, number))
        np.testing.assert_array_equal(written, adapter)
    assert [event["steps"] for event in trainer.events("compute_end")] == [8, 8]
    for client in clients:
        assert client.events("compute_start") == []
        [brought] = client.events("delivery_end")
        assert (brought["round"], brought["payload_bytes"]) == (2, 4 * LAYOUT.size)
        assert client.events("accepted")[0]["status"] == "STATUS_OK"


def test_devices_that_train_alone_keep_what_they_make_and_begin_alike(
    federation: Callable[..., Federation], tmp_path: Path
) -> None:
    run = federation("dev0,dev1", "--scheme", "local", "--rounds", 2)
    folders = [tmp_path / name for name in ("dev0", "dev1")]
    clients = [run.client(folder.name, "--adapters", folder) for folder in folders]
    for index, (client, folder) in enumerate(zip(clients, folders, strict=True)):
        assert client.wait() == 0, client.complaint
        trainer = SyntheticTrainer(LAYOUT, device_index=index, steps=4, examples=10, seed=5)
        adapter = initial_adapter(LAYOUT, 5)  # of the task's seed: none came down
        for number in (1, 2):
            adapter = trainer.train(adapter, round_number=number).vector
            np.testing.assert_array_equal(load_adapter(adapter_file(folder, number))[1], adapter)
        assert [event["payload_bytes"] for event in client.events("download_end")] == [0, 0]
        assert [event["payload_bytes"] for event in client.events("encode_end")] == [0, 0]
    assert run.server.wait() == 0
    assert [path.name for path in run.checkpoints.iterdir()] == ["round-0000.safetensors"]
