"""The channel's table, and the least time that transfers take at the rates that were commanded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from emulation.channel_driver import Command
from emulation.link import AccessLink, LinkChange, LinkSpec
from experiments import channel_record
from experiments.channel_record import ChannelLog, Commanded
from experiments.timeline import ClientRound, Round
from tests.emulation.channels import small_channel

WIRE = 1514 / 1448


def log_of(*steps: tuple[float, float, float]) -> pd.DataFrame:
    """(begun, done, rate) of dev0's two directions, alike."""
    rows = [
        {"t": begun, "t_done": done, "device": "dev0", "direction": way, "rate_bps": rate}
        for begun, done, rate in steps
        for way in ("down", "up")
    ]
    return pd.DataFrame(rows)


STEPS = log_of((10, 10, 8e6), (11, 11, 2e6), (12, 12, 0), (13, 13, 4e6))


@pytest.mark.parametrize(
    ("start_s", "bits", "least_s"),
    [
        (10.0, 4e6, 0.5),
        (10.5, 5e6, 1.0),  # 4 Mbit at 8 Mbit/s, then 1 Mbit at 2
        (10.5, 6e6, 1.5),
        (10.5, 6.4e6, 2.6),  # a second without a link
        (12.5, 2e6, 1.0),
        (13.5, 2e6, 0.5),  # the last rate holds
        (20.0, 2e6, 0.5),
        (10.5, 0.0, 0.0),
    ],
)
def test_least_time_at_rates_that_change(start_s: float, bits: float, least_s: float) -> None:
    assert Commanded(STEPS).least_s("dev0", "up", start_s, bits) == pytest.approx(least_s)


def test_while_a_change_is_under_way_the_larger_rate_holds() -> None:
    rising = Commanded(log_of((10, 10, 1e6), (11, 12, 4e6)))
    assert rising.least_s("dev0", "up", 10.0, 5e6) == pytest.approx(2.0)
    falling = Commanded(log_of((10, 10, 4e6), (11, 12, 1e6)))
    assert falling.least_s("dev0", "up", 10.0, 8e6) == pytest.approx(2.0)


def test_what_never_gets_through_takes_forever() -> None:
    ended = Commanded(log_of((10, 10, 8e6), (11, 11, 0)))
    assert ended.least_s("dev0", "up", 10.5, 5e6) == float("inf")
    assert ended.least_s("dev0", "up", 20.0, 5e6) == float("inf")


def test_what_was_never_commanded_has_no_bound() -> None:
    assert np.isnan(Commanded(STEPS.iloc[:0]).least_s("dev0", "up", 10.5, 5e6))
    assert channel_record.contradictions([one_round(0.24)], Commanded(STEPS.iloc[:0])) == []


def one_round(upload_s: float, outcome: str = "finished") -> Round:
    client = ClientRound(1, "dev0", outcome=outcome)
    client.marks = {
        "download_start": {"t": 10.0},
        "download_end": {"t": 10.6, "payload_bytes": 500_000},  # 4 Mbit
        "compute_start": {"t": 10.6},
        "compute_end": {"t": 10.7},
        "encode_end": {"t": 10.75, "payload_bytes": 300_000},  # At most: the codec's lengths vary.
        "upload_start": {"t": 10.75},
        "upload_received": {"t": 10.75 + upload_s, "payload_bytes": 250_000},  # 2 Mbit
    }
    return Round(1, 10.0, end=14.0, clients={"dev0": client})


def test_bounds_follow_the_commanded_rates() -> None:
    clients = pd.DataFrame(
        [{"round": 1, "client": "dev0", "compute_s": 0.1, "bound_download_s": 9.9, "bound_upload_s": 9.9}]
    ).assign(bound_s=9.9)
    link = AccessLink("dev0", up=LinkSpec(1e6, 0.02), down=LinkSpec(1e6, 0.01))
    (row,) = channel_record.with_bounds(clients, [one_round(0.4)], Commanded(STEPS), {"dev0": link}).to_dict(
        "records"
    )
    assert row["bound_download_s"] == pytest.approx(0.5 * WIRE + 0.01)
    # 2 Mbit fit in at 8 Mbit/s until 11 s; the headers' 91,160 bits follow at 2 Mbit/s.
    assert row["bound_upload_s"] == pytest.approx(0.25 + 2e6 * (WIRE - 1) / 2e6 + 0.02)
    assert row["bound_s"] == pytest.approx(row["bound_download_s"] + row["bound_upload_s"] + 0.1)
    assert clients["bound_s"][0] == 9.9  # The table that was given stays.


def test_faster_than_commanded_is_a_contradiction() -> None:
    commanded = Commanded(STEPS)
    assert channel_record.contradictions([one_round(0.26)], commanded) == []
    (found,) = channel_record.contradictions([one_round(0.24)], commanded)
    assert found == "round 1, dev0: upload of 0.240 s is faster than the commanded rate's 0.250 s"
    assert channel_record.contradictions([one_round(0.24, outcome="lost")], commanded) == []


def test_the_log_reads_back_in_emulated_time(tmp_path: Path) -> None:
    file, devices = tmp_path / "channel.csv", ["dev0", "dev1"]
    log = ChannelLog(file, devices, dilation=4.0)
    channel = small_channel()
    told: dict[Any, LinkChange] = {
        (device, way): LinkChange(rate_bps=1e6, loss=0.125, up=device == "dev0")
        for device in devices
        for way in ("down", "up")
    }
    for step in range(3):
        log(Command(100.0 + step, 100.5 + step, channel.state(step * 0.25), told))
    log.close()
    rows = channel_record.read_log(file, dilation=4.0)
    assert len(rows) == 3 * 2 * 2
    assert sorted(set(rows["t"])) == [25.0, 25.25, 25.5] and rows["t_done"].iloc[0] == 25.125
    table = channel_record.table(rows, start_s=25.25)
    assert list(table.columns) == ["t_s", *channel_record.COLUMNS]
    assert table["t_s"].min() == pytest.approx(-0.25)
    up, down = table[table["device"] == "dev0"], table[table["device"] == "dev1"]
    assert (up["rate_bps"] == 4e6).all() and (up["loss"] == 0.125).all() and (up["up"] == 1).all()
    assert (down["rate_bps"] == 0).all() and (down["loss"] == 0).all() and (down["up"] == 0).all()
    last = table.tail(4)["snr_db"].to_numpy()
    assert np.allclose(last, small_channel().state(0.5).snr_db.reshape(-1), atol=0.01)
