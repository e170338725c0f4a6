"""A private run as its user starts it: real network, real processes, and an epsilon for what took place."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments.privacy import epsilon
from tests.conftest import CONFIGS, valid_run


def test_a_private_run_says_what_it_spent_and_clips_what_it_sends(tmp_path: Path) -> None:
    overrides = ["privacy.clip_norm=0.5", "privacy.noise_multiplier=2", "aggregation.mean=uniform"]
    overrides += ["uplink.codec=fp32", "adapter.rank=1"]
    run = valid_run(CONFIGS / "smoke.yaml", f"output={tmp_path}", *overrides)
    expected = [epsilon(number / 2**2, 1e-5) for number in (1, 2)]
    assert [row["epsilon"] for row in run["rounds"]] == pytest.approx(expected)
    singles = [epsilon(number / (2**2 / 2), 1e-5) for number in (1, 2)]
    assert [row["epsilon_single_update"] for row in run["rounds"]] == pytest.approx(singles)
    told = json.loads((Path(run["run_dir"]) / "manifest.json").read_text())["privacy"]
    assert told["epsilon"] == pytest.approx(expected[-1])
    clients = pd.read_csv(Path(run["run_dir"]) / "clients.csv")
    # An update of the synthetic trainer has a norm of 1e-3 sqrt(199296).
    assert clients["update_norm"].between(0.44, 0.45).all() and not clients["clipped"].any()
