"""Central training from events to tables: data once, training in every round, the adapter in the last."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from emulation.link import AccessLink, LinkSpec
from experiments import record, record_central, timeline

LINK = AccessLink("dev0", up=LinkSpec(1e6, 0.02), down=LinkSpec(10e6, 0.02))
LINKS = {"dev0": LINK}
HEADERS = 1514 / 1448


def event(t: float, process: str, kind: str, /, **fields: Any) -> timeline.Event:
    return {"t": t, "process": process, "event": kind, **fields}


def counters(tx: int, rx: int, again: int = 0) -> dict[str, int]:
    return {"tx_bytes": tx, "rx_bytes": rx, "retransmitted_segments": again}


def data_up(number: int) -> list[timeline.Event]:
    """100 kB in 0.9 s, asked for within 0.05 s."""
    return [
        event(1.01, "server", "download_start", round=number, client="dev0", kind="part", payload_bytes=0),
        event(
            1.06,
            "dev0",
            "download_end",
            round=number,
            payload_bytes=0,
            message_bytes=50,
            **counters(600, 700),
        ),
        event(1.06, "dev0", "encode_end", round=number, payload_bytes=100_000, **counters(600, 700)),
        event(1.06, "dev0", "upload_start", round=number, attempt=1, offset=0),
        event(
            1.96,
            "server",
            "upload_received",
            round=number,
            client="dev0",
            payload_bytes=100_000,
            message_bytes=100_100,
            loss=None,
            steps=0,
        ),
        event(
            1.99,
            "dev0",
            "upload_end",
            round=number,
            status="STATUS_OK",
            attempts=1,
            encode_cpu_s=0.0,
            **counters(106_600, 3_700, 1),
        ),
    ]


def training(number: int, start: float) -> list[timeline.Event]:
    """Half a second; the interface is the server's, and none of the trainer's business."""
    return [
        event(
            start, "server", "download_start", round=number, client="trainer", kind="part", payload_bytes=0
        ),
        event(
            start,
            "trainer",
            "download_end",
            round=number,
            payload_bytes=0,
            message_bytes=50,
            **counters(9, 9),
        ),
        event(start + 0.1, "trainer", "compute_start", round=number),
        event(
            start + 0.6, "trainer", "compute_end", round=number, steps=8, loss=0.3, cpu_s=0.5, overrun_s=0.0
        ),
        event(start + 0.6, "trainer", "encode_end", round=number, payload_bytes=0, **counters(9, 9)),
        event(start + 0.6, "trainer", "upload_start", round=number, attempt=1, offset=0),
        event(
            start + 0.61,
            "server",
            "upload_received",
            round=number,
            client="trainer",
            payload_bytes=0,
            message_bytes=40,
            loss=0.3,
            steps=8,
        ),
        event(
            start + 0.62,
            "trainer",
            "upload_end",
            round=number,
            status="STATUS_OK",
            attempts=1,
            encode_cpu_s=0.0,
            **counters(99_999, 99_999),
        ),
    ]


def delivery(number: int, start: float) -> list[timeline.Event]:
    """50 kB down in 0.1 s, and a receipt."""
    return [
        event(
            start, "server", "delivery_start", round=number, client="dev0", kind="full", payload_bytes=50_000
        ),
        event(
            start + 0.1,
            "dev0",
            "delivery_end",
            round=number,
            payload_bytes=50_000,
            message_bytes=50_040,
            kind="full",
            **counters(108_600, 56_700, 1),
        ),
        event(
            start + 0.12,
            "server",
            "delivered",
            round=number,
            client="dev0",
            payload_bytes=0,
            message_bytes=44,
            loss=None,
            steps=0,
        ),
        event(
            start + 0.15, "dev0", "accepted", round=number, status="STATUS_OK", **counters(108_800, 56_800, 1)
        ),
    ]


def begin(number: int, t: float, *cohort: str) -> timeline.Event:
    return event(t, "server", "round_start", round=number, cohort=[*cohort, "trainer"], scheme="central")


def end(number: int, t: float, **outcomes: str) -> timeline.Event:
    everybody = {"trainer": "finished", **outcomes}
    return event(t, "server", "round_end", round=number, outcomes=everybody, weight=0)


def tables(events: list[timeline.Event]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rounds = timeline.build(sorted(events, key=lambda one: one["t"]))
    clients = record.clients_table(rounds, LINKS)
    return record.rounds_table(rounds, clients), clients


JOINED = event(0.5, "dev0", "connected", **counters(500, 600))


def three_rounds() -> list[timeline.Event]:
    return [
        *(JOINED, begin(1, 1.0, "dev0"), *data_up(1), *training(1, 2.0), end(1, 2.7, dev0="finished")),
        *(begin(2, 3.0), *training(2, 3.0), end(2, 3.65)),
        *(begin(3, 4.0, "dev0"), *training(3, 4.0), *delivery(3, 4.7), end(3, 4.9, dev0="finished")),
    ]


def test_the_first_round_has_the_data_every_one_the_training_and_the_last_the_adapter() -> None:
    rounds, clients = tables(three_rounds())
    assert rounds["scheme"].tolist() == ["central"] * 3
    assert rounds["latency_s"].tolist() == pytest.approx([1.7, 0.65, 0.9])
    assert rounds["payload_up_bytes"].tolist() == [100_000, 0, 0]
    assert rounds["payload_down_bytes"].tolist() == [0, 0, 50_000]
    assert rounds["message_up_bytes"].tolist() == [100_100, 0, 44]
    assert rounds["wire_up_bytes"].tolist() == [106_000 + 3_000, 0, 200 + 100]
    assert rounds["wire_down_bytes"].tolist() == [200, 0, 2_000 + 53_000]
    assert rounds["retransmitted_segments"].tolist() == [1, 0, 0]
    assert rounds["clients_finished"].tolist() == [2, 1, 2]
    # 100 kB up at 1 Mbit/s, and 20 ms each way, before half a second of training; 50 kB down at 10 after it.
    up_s, down_s = 0.8 * HEADERS + 0.04, 0.04 * HEADERS + 0.02
    assert rounds["bound_s"].tolist() == pytest.approx([up_s + 0.5, 0.5, 0.5 + down_s])
    assert record.contradictions(clients, LINKS) == [] and record_central.failures(clients) == []


def test_a_round_s_latency_is_the_sum_of_anybody_s_phases() -> None:
    rounds, clients = tables(three_rounds())
    latency = dict(zip(rounds["round"], rounds["latency_s"], strict=True))
    for row in clients.to_dict("records"):
        phases = [row[f"{phase}_s"] for phase in timeline.PHASES]
        assert sum(part for part in phases if not pd.isna(part)) == pytest.approx(latency[row["round"]])
    trainer = clients[clients["client"] == "trainer"]
    assert trainer["compute_s"].tolist() == pytest.approx([0.5] * 3)
    assert trainer["steps"].tolist() == [8] * 3 and not trainer["remote"].any()
    assert (trainer[["wire_up_bytes", "wire_down_bytes", "message_down_bytes"]] == 0).all(axis=None)


def test_a_single_round_has_all_of_it() -> None:
    events = [JOINED, begin(1, 1.0, "dev0"), *data_up(1), *training(1, 2.0), *delivery(1, 2.7)]
    rounds, clients = tables([*events, end(1, 2.9, dev0="finished")])
    row = clients[clients["client"] == "dev0"].iloc[0]
    assert (row["payload_up_bytes"], row["payload_down_bytes"]) == (100_000, 50_000)
    assert (row["wire_up_bytes"], row["wire_down_bytes"]) == (109_000 + 300, 200 + 55_000)
    assert row["download_s"] == pytest.approx(0.05 + 0.1) and row["upload_s"] == pytest.approx(0.9)
    assert rounds.iloc[0]["bound_s"] == pytest.approx(0.8 * HEADERS + 0.04 + 0.5 + 0.04 * HEADERS + 0.02)
    assert record.contradictions(clients, LINKS) == []


def test_what_cannot_be_is_found_here_too() -> None:
    events = three_rounds()
    for one in events:
        if one["event"] == "upload_received" and one["client"] == "dev0":
            one["t"] = 1.3  # 100 kB in 0.24 s on 1 Mbit/s
        if one["event"] == "delivery_end":
            one["rx_bytes"] = 20_000
        if one["event"] == "compute_end" and one["round"] == 2:
            one["overrun_s"] = 0.25
    _, clients = tables(events)
    found = "; ".join(record.contradictions(clients, LINKS))
    assert "round 1, dev0: upload of 0.240 s is faster than the link's 0.800 s" in found
    assert "round 3, dev0: bytes down contradict" in found
    assert "round 2, trainer: training took 0.25 s longer than the compute profile; dilation=2" in found


def test_a_round_in_which_nobody_trained_is_a_failure() -> None:
    events = [JOINED, begin(1, 1.0, "dev0"), *data_up(1), end(1, 7.0, dev0="finished", trainer="lost")]
    rounds, clients = tables(events)
    assert record_central.failures(clients) == ["round 1: the server's trainer: lost"]
    assert rounds.iloc[0]["clients_finished"] == 1
