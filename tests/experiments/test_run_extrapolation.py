"""A round of which a part is emulated and the rest extrapolated, against the same round sent whole.

Over one clean link and one that loses 0.1 % of all frames, four times as fast as time.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import CONFIGS, NOISE, fedcell_json

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


def run(output: Path, *more: str) -> dict[str, Any]:
    """A busy machine may make its relay late, which is little beside 2 %; nothing else may be wrong."""
    document = fedcell_json("run", CONFIGS / "smoke.yaml", f"output={output}", *PLAN, *more, status=None)
    assert all(NOISE.search(reason) for reason in document["invalid_reasons"]), document["invalid_reasons"]
    return document


def test_an_extrapolated_round_lasts_as_long_as_one_sent_whole(tmp_path: Path) -> None:
    whole, part = run(tmp_path), run(tmp_path, "adapter.emulated_time=5s")
    (ours,), (theirs,) = part["rounds"], whole["rounds"]
    assert ours["extrapolated"] and not theirs["extrapolated"]
    assert ours["latency_s"] == pytest.approx(theirs["latency_s"], rel=0.02)
    assert ours["bound_s"] == pytest.approx(theirs["bound_s"], rel=1e-3)
    for way in ("up", "down"):
        assert ours[f"payload_{way}_bytes"] == theirs[f"payload_{way}_bytes"]
        assert ours[f"message_{way}_bytes"] == pytest.approx(theirs[f"message_{way}_bytes"], rel=1e-4)
        assert ours[f"wire_{way}_bytes"] == pytest.approx(theirs[f"wire_{way}_bytes"], rel=0.02)
    mine, full = (pd.read_csv(Path(one["run_dir"]) / "clients.csv") for one in (part, whole))
    assert mine["extrapolated"].all() and not full["extrapolated"].any()
    for phase in ("download", "upload"):
        # A moment in which the machine stood still is four here, and the links never make it good.
        assert mine[f"{phase}_s"].to_numpy() == pytest.approx(full[f"{phase}_s"].to_numpy(), rel=0.05), phase
    folder = Path(part["run_dir"])
    sent = pd.read_csv(folder / "extrapolation.csv")
    assert sent["steady"].all() and (sent["emulated_bytes"] < 0.4 * sent["payload_bytes"]).all()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["extrapolated"]["values"] < manifest["extrapolated"]["whole_values"] == 16 * 199_296
    assert any("the rest is extrapolated" in warning for warning in manifest["warnings"])
