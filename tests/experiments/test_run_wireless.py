"""One whole run whose links follow a wireless channel."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import config
from tests.conftest import CONFIGS, valid_run

WIRELESS = CONFIGS / "wireless.yaml"


def test_links_follow_the_channel(tmp_path: Path) -> None:
    document = valid_run(WIRELESS, f"output={tmp_path}", "rounds=3")
    run_dir = Path(document["run_dir"])
    channel = pd.read_csv(run_dir / "channel.csv")
    devices = [f"dev{number}" for number in range(4)]
    assert sorted(channel["device"].unique()) == devices
    assert channel["t_s"].min() < 0 < channel["t_s"].max()  # From before the first round on.
    assert channel.groupby(["device", "direction"])["rate_bps"].nunique().min() > 10
    # What was commanded is what the configuration's channel says, within the 1 % that is not sent.
    experiment = config.load(WIRELESS)
    assert experiment.network.channel is not None
    again = experiment.network.channel.build(devices).state(0.0)
    first = channel.head(8)["rate_bps"].to_numpy()
    assert first == pytest.approx(again.rate_bps.reshape(-1), rel=1e-6)
    clients = pd.read_csv(run_dir / "clients.csv")
    for phase in ("download", "upload"):  # bound_* goes by the commanded rates.
        assert (clients[f"{phase}_s"] >= 0.99 * clients[f"bound_{phase}_s"]).all()
    assert (run_dir / "figures" / "channel.png").stat().st_size > 10_000
    manifest = json.loads((run_dir / "manifest.json").read_text())
    assert manifest["config"]["network"]["channel"]["seed"] == experiment.seed
