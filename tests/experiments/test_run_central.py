"""One whole run of central training: raw data over emulated links, the server's trainer beside the server."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from proto.adapter import load_adapter
from tests.conftest import CONFIGS, valid_run

IMAGES, IMAGE_BYTES, ADAPTER_BYTES = 10, 30_000, 4 * 199_296


def test_data_go_up_once_the_server_trains_and_the_adapter_comes_down(tmp_path: Path) -> None:
    keys = ["training.scheme=central", "uplink.codec=fp32", "downlink.codec=fp32", "adapter.rank=1"]
    keys += [f"central.images={IMAGES}", f"central.image_bytes={IMAGE_BYTES}B"]
    keys += ["compute.server_seconds_per_step=0.1s", "training.steps=2"]
    document = valid_run(CONFIGS / "smoke.yaml", *keys, f"output={tmp_path}")
    run_dir = Path(document["run_dir"])
    first, last = document["rounds"]
    assert (first["payload_up_bytes"], first["payload_down_bytes"]) == (2 * IMAGES * IMAGE_BYTES, 0)
    assert (last["payload_up_bytes"], last["payload_down_bytes"]) == (0, 2 * ADAPTER_BYTES)
    for row in document["rounds"]:
        assert row["bound_s"] <= row["latency_s"] < 1.5 * row["bound_s"] + 0.3
    clients = pd.read_csv(run_dir / "clients.csv")
    trainer = clients[clients["client"] == "trainer"]
    assert trainer["compute_s"].tolist() == pytest.approx([0.4, 0.4], abs=0.05)  # Both devices' steps.
    assert (trainer["wire_up_bytes"] == 0).all()
    for number in range(3):
        assert load_adapter(run_dir / "adapters" / f"round-{number:04d}.safetensors")[0].size == 199_296
    assert not (run_dir / "collected").exists()  # The devices' own: the run keeps no copy.
    assert (run_dir / "figures" / "latency.png").stat().st_size > 5_000
