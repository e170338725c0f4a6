"""Whole runs whose rounds do not go smoothly: a straggler, links that are down now and then."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import CONFIGS, valid_run

SMOKE = CONFIGS / "smoke.yaml"
PAYLOAD = 822_096  # an update in int8


def clients_of(document: dict) -> pd.DataFrame:
    table = pd.read_csv(Path(document["run_dir"]) / "clients.csv")
    return table.set_index(["round", "client"])


@pytest.mark.parametrize("late", ["refuse", "next_round"])
def test_a_straggler_costs_what_it_sent_and_counts_when_it_may(tmp_path: Path, late: str) -> None:
    """dev0 needs 3.3 s for an update, a round closes a second after dev1 is done: after 1.7 s."""
    slow = ["network.devices.0.up.rate=2mbit", "rounds=6", f"output={tmp_path}"]
    early = ["federation.close_after=50%", "federation.close_grace=1s", f"federation.late={late}"]
    document = valid_run(SMOKE, *slow, *early)
    assert [row["clients_finished"] for row in document["rounds"]] == [1] * 6
    assert any("round 1: dev0 late" in warning for warning in document["warnings"])
    clients = clients_of(document)
    first = clients.loc[(1, "dev0")]
    assert first["outcome"] == "late"
    assert first["wire_up_bytes"] > 50_000
    if late == "refuse":
        assert first["upload_status"] == "STATUS_LATE"
        assert 0 < first["received_up_bytes"] < PAYLOAD
        assert first["wire_up_bytes"] >= first["received_up_bytes"]
        assert clients["used_in_round"].isna().all()
    else:
        assert first["upload_status"] == "STATUS_OK"
        assert first["received_up_bytes"] == PAYLOAD
        assert 1 < first["used_in_round"] <= 6


def test_links_that_are_down_now_and_then_only_cost_time(tmp_path: Path) -> None:
    """Outages of a second every two, both ways: every update arrives once, nobody is lost."""
    outage = "{up: 2s, down: 1s}"
    links = [f"network.devices.0.{way}.outage={outage}" for way in ("up", "down")]
    slow = ["network.devices.0.up.rate=2mbit", "network.devices.0.down.rate=4mbit"]
    document = valid_run(SMOKE, *links, *slow, "rounds=1", f"output={tmp_path}")
    clients = clients_of(document)
    assert (clients["outcome"] == "finished").all()
    row = clients.loc[(1, "dev0")]
    assert row["received_up_bytes"] == row["payload_up_bytes"] == PAYLOAD
    assert row["upload_attempts"] == 1
    assert row["download_s"] + row["upload_s"] > row["bound_download_s"] + row["bound_upload_s"] + 0.5
