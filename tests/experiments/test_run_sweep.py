"""A sweep as its user starts it: real trials, a failing one among them, and what is left when stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import CONFIGS, NOISE, REPOSITORY, fedcell, traces

SMOKE = CONFIGS / "smoke.yaml"
TINY = ["adapter.rank=1", "rounds=1", "network.devices=[{}]", "network.profile=wifi"]


def test_a_failed_trial_is_reported_the_rest_finished_and_only_it_is_run_again(tmp_path: Path) -> None:
    before = traces()
    arguments = [SMOKE, *TINY, "network.congestion_control=swift,cubic", "--output", tmp_path, "--json"]
    first = fedcell("sweep", *arguments)
    assert first.returncode == 1, first.stderr
    document = json.loads(first.stdout)
    assert (document["trials"], document["failed"], document["ran"]) == (2, 1, 2)
    assert "2 trials; 1 at a time" in first.stderr and "about" in first.stderr
    assert traces() == before

    results = pd.read_csv(document["results_csv"])
    assert results["network.congestion_control"].tolist() == ["swift", "cubic"]
    failed, done = results.to_dict("records")
    assert failed["outcome"] == "failed" and "swift" in failed["reason"]
    assert done["outcome"] == "valid" or NOISE.search(done["reason"])
    assert (
        done["payload_up_bytes"] == 199_296 + 2 * 3_114
    )  # one device, int8: a byte a value, 2 a block of 64
    assert done["latency_mean_s"] >= done["bound_mean_s"] and done["wire_up_bytes"] > done["payload_up_bytes"]
    assert len(pd.read_csv(document["rounds_csv"])) == 1
    for name in ("latency", "bytes"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 5_000

    again = fedcell("sweep", *arguments)
    assert again.returncode == 1 and json.loads(again.stdout)["ran"] == 1
    assert "1 of them done already" in again.stderr
    assert pd.read_csv(document["results_csv"])["run_dir"].tolist()[1] == done["run_dir"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_leaves_nothing_running(tmp_path: Path, signum: int) -> None:
    before = traces()
    command = [sys.executable, "-m", "experiments.cli", "sweep", str(SMOKE), *TINY[2:], "rounds=50,51"]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path)], stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("trials/*/latest/events/server.jsonl")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        os.kill(process.pid, signum)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    deadline = time.monotonic() + 10
    while traces() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert traces() - before == set()
    assert pd.read_csv(tmp_path / "results.csv")["outcome"].tolist() == ["not run", "not run"]
    if signum == signal.SIGINT:
        assert process.returncode == 130 and "can be resumed" in said
