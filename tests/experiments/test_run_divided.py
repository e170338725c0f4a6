"""One whole run in a cell that is divided so that the last of its devices is done as early as possible."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import analytic_run, config, round_needs
from tests.conftest import CONFIGS, valid_run

DIVIDED = CONFIGS / "divided.yaml"


def test_min_max_has_all_done_at_once_and_before_equal_bands_could(tmp_path: Path) -> None:
    document = valid_run(DIVIDED, f"output={tmp_path}")
    equal = config.load(DIVIDED, ["network.cell.allocation=equal"])
    needs = round_needs.needs(equal, 2)
    assert needs is not None
    equal_s = max(analytic_run.done_s(equal.links(), analytic_run.rates_bps(equal), needs).values())
    clients = pd.read_csv(Path(document["run_dir"]) / "clients.csv")
    second = clients[clients["round"] == 2]
    done_s = second[["download_s", "compute_s", "encode_s", "upload_s"]].sum(axis=1)
    assert done_s.max() / done_s.min() < 1.1
    for row in document["rounds"]:
        assert row["analytic_s"] < row["latency_s"]
    # The analytic model's time for equal bands is one that no emulated round with them can beat.
    assert document["rounds"][1]["latency_s"] < equal_s
    assert (clients["energy_compute_j"] > 0).all() and (clients["energy_radio_j"] > 0).all()
    manifest = json.loads((Path(document["run_dir"]) / "manifest.json").read_text())
    bands = [share["bandwidth_hz"] for share in manifest["allocation"]["up"].values()]
    assert sum(bands) == pytest.approx(2e6) and len(set(bands)) == 3
    assert manifest["compute"]["dev2"]["profile"]["name"] == "laptop_gpu"
