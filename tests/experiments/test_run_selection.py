"""A whole run that asks some devices at some times, as the configuration says; a synthetic trainer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments.timeline import read_events
from tests.conftest import CONFIGS, fedcell, valid_run

SMOKE = CONFIGS / "smoke.yaml"


def test_turns_and_an_availability_trace_in_emulated_time(tmp_path: Path) -> None:
    """One device a round, in turn; nobody is there in the first two emulated seconds, which are one here."""
    trace = tmp_path / "trace.csv"
    trace.write_text("device,from_s,until_s\ndev0,2,inf\ndev1,2,inf\n")
    keys = ["federation.cohort=50%", "federation.selection=round_robin", "dilation=0.5"]
    document = valid_run(SMOKE, f"output={tmp_path}", f"federation.availability={trace}", *keys)
    run_dir = Path(document["run_dir"])
    assert [row["cohort"] for row in document["rounds"]] == [1, 1]
    assert list(pd.read_csv(run_dir / "clients.csv")["client"]) == ["dev0", "dev1"]
    assert (run_dir / "availability.csv").read_text() == trace.read_text()
    events = {event["event"]: event for event in reversed(read_events(run_dir / "events", dilation=0.5))}
    assert events["nobody_available"]["next_in_s"] == 2
    waited_s = events["round_start"]["t"] - events["nobody_available"]["t"]
    assert 1.99 < waited_s < 3.9  # at half or twice the dilation it would be 1 or 4


def test_a_run_that_nobody_can_take_part_in_is_wrong_input(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("device,from_s,until_s\ndev0,600,inf\ndev1,600,inf\n")
    keys = ["federation.round_deadline=1s", f"federation.availability={trace}", f"output={tmp_path}"]
    done = fedcell("run", SMOKE, *keys)
    assert done.returncode == 2
    assert "federation.availability: no device was available in any round" in done.stderr
    assert "Traceback" not in done.stderr
