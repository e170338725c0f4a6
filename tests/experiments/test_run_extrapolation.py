"""A round of which a part is emulated and the rest extrapolated, against the same round sent whole.

One clean link and one that loses 0.1 % of all frames; ten times as fast as time.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import CONFIGS, valid_run

PLAN = [
    "rounds=1",
    "dilation=0.25",
    "adapter.rank=16",
    "uplink.codec=fp32",
    "downlink.codec=fp32",
    "compute.seconds_per_step=2s",
    "network.devices.0={down: {rate: 8mbit, delay: 15ms}, up: {rate: 8mbit, delay: 15ms}}",
    "network.devices.1={down: {rate: 8mbit, delay: 10ms}, up: {rate: 8mbit, delay: 10ms}}",
    "network.devices.1.down.loss=0.1%",
    "network.devices.1.up.loss=0.1%",
]


def test_an_extrapolated_round_lasts_as_long_as_one_sent_whole(tmp_path: Path) -> None:
    whole = valid_run(CONFIGS / "smoke.yaml", f"output={tmp_path}", *PLAN)
    part = valid_run(CONFIGS / "smoke.yaml", f"output={tmp_path}", *PLAN, "adapter.emulated_time=5s")
    (ours,), (theirs,) = part["rounds"], whole["rounds"]
    assert ours["extrapolated"] and not theirs["extrapolated"]
    assert ours["latency_s"] == pytest.approx(theirs["latency_s"], rel=0.02)
    assert ours["bound_s"] == pytest.approx(theirs["bound_s"], rel=1e-3)
    for level in ("payload", "message", "wire"):
        for way in ("up", "down"):
            key = f"{level}_{way}_bytes"
            assert ours[key] == pytest.approx(theirs[key], rel=0.02), key
    folder = Path(part["run_dir"])
    mine, full = (pd.read_csv(Path(run["run_dir"]) / "clients.csv") for run in (part, whole))
    for phase in ("download", "upload"):
        assert mine[f"{phase}_s"].to_numpy() == pytest.approx(full[f"{phase}_s"].to_numpy(), rel=0.02), phase
    assert mine["extrapolated"].all() and (mine["upload_s"] >= mine["bound_upload_s"] * 0.99).all()
    sent = pd.read_csv(folder / "extrapolation.csv")
    assert sent["steady"].all() and (sent["emulated_bytes"] < 0.6 * sent["payload_bytes"]).all()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["extrapolated"]["values"] < manifest["extrapolated"]["whole_values"] == 16 * 199_296
    assert any("the rest is extrapolated" in warning for warning in manifest["warnings"])
