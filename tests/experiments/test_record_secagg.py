"""What secure aggregation adds, in the tables: its time, its bytes, and whose they are not."""

from __future__ import annotations

import pandas as pd
import pytest
from test_record import counters, event, one_round, tables


def test_its_stages_and_bytes_stand_apart_from_the_transfers() -> None:
    """Their messages are counted; on the wire they are with the download before and the upload after them."""
    events = [
        *one_round(),
        event(1.01, "server", "agree_start", round=1, threshold=2),
        event(1.05, "dev0", "agreed", round=1, message_bytes=400),
        event(1.06, "server", "agree_end", round=1, members=1),
    ]
    for record in events:
        if record["event"] in ("aggregate_start", "round_end"):
            record["t"] += 0.2
    events += [
        event(2.815, "server", "unmask_start", round=1),
        event(2.9, "dev0", "revealed", round=1, message_bytes=150, clipped=7, **counters(55_150, 107_150, 2)),
    ]
    rounds, clients = tables(sorted(events, key=lambda e: e["t"]))
    row = clients.iloc[0]
    assert row["agree_s"] == pytest.approx(0.05)
    assert row["unmask_s"] == pytest.approx(3.01 - 2.815)
    assert row["wait_s"] == pytest.approx(0.015)
    assert row["aggregate_s"] == pytest.approx(0.02)
    assert row["secagg_bytes"] == 400 + 150
    assert row["clipped_values"] == 7
    assert row["wire_down_bytes"] == 107_000
    assert row["wire_up_bytes"] == 52_500 + 1_300 + 300
    assert rounds.iloc[0]["secagg_s"] == pytest.approx(0.05 + 0.195)
    assert rounds.iloc[0]["secagg_bytes"] == 550


def test_without_it_there_is_nothing() -> None:
    rounds, clients = tables(one_round())
    assert pd.isna(rounds.iloc[0]["secagg_s"]) and rounds.iloc[0]["secagg_bytes"] == 0
    assert pd.isna(clients.iloc[0]["agree_s"]) and pd.isna(clients.iloc[0]["secagg_bytes"])
