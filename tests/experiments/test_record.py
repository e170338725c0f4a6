"""From events to tables: phases, bytes, and the verdict."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from emulation.link import AccessLink, LinkSpec
from experiments import record, timeline

LINKS = {"dev0": AccessLink("dev0", up=LinkSpec(1e6, 0.02), down=LinkSpec(10e6, 0.02))}


def event(t: float, process: str, kind: str, /, **fields: object) -> timeline.Event:
    return {"t": t, "process": process, "event": kind, **fields}


def counters(tx: int, rx: int, again: int = 0) -> dict[str, int]:
    return {"tx_bytes": tx, "rx_bytes": rx, "retransmitted_segments": again}


def one_round() -> list[timeline.Event]:
    """100 kB down, 50 kB up, as four processes' logs merge: every phase lasts a different time."""
    return [
        event(0.0, "dev0", "connected", **counters(500, 600)),
        event(1.0, "server", "round_start", round=1, cohort=["dev0"]),
        event(1.1, "server", "download_start", round=1, client="dev0", kind="delta", payload_bytes=100_000),
        event(
            1.3, "dev0", "download_end", round=1, payload_bytes=100_000, message_bytes=100_100,
            **counters(2_500, 105_600),
        ),
        event(1.4, "dev0", "compute_start", round=1),
        event(2.0, "dev0", "compute_end", round=1, steps=5, loss=0.5, cpu_s=0.55, overrun_s=0.0),
        event(2.05, "dev0", "encode_end", round=1, payload_bytes=50_000, **counters(2_500, 105_700)),
        event(2.1, "dev0", "upload_start", round=1, attempt=1, offset=0),
        event(2.8, "server", "upload_received", round=1, client="dev0", payload_bytes=50_000,
              message_bytes=50_080, loss=0.5, steps=5),
        event(2.81, "server", "aggregate_start", round=1),
        event(2.83, "server", "round_end", round=1, outcomes={"dev0": "finished"}, weight=10),
        event(2.85, "dev0", "upload_end", round=1, status="STATUS_OK", attempts=1,
              **counters(55_000, 107_000, 2)),
    ]  # fmt: skip


def tables(events: list[timeline.Event]) -> tuple[pd.DataFrame, pd.DataFrame]:
    rounds = timeline.build(events)
    clients = record.clients_table(rounds, LINKS)
    return record.rounds_table(rounds, clients), clients


def test_phases_bytes_and_bounds() -> None:
    owed = event(2.86, "dev0", "error_feedback", round=1, update_norm=2.0, residual_norm=0.25, cpu_s=0.01)
    rounds, clients = tables([*one_round(), owed])
    row = clients.iloc[0]
    phases = {"download": 0.2, "gate": 0.1, "compute": 0.6, "encode": 0.05}
    phases |= {"upload": 0.7, "wait": 0.01, "aggregate": 0.02}
    for phase, seconds in phases.items():
        assert row[f"{phase}_s"] == pytest.approx(seconds), phase
    # Both directions of the interface count: 105,000 received and 2,000 sent while downloading.
    assert row["wire_down_bytes"] == 107_000
    assert row["wire_up_bytes"] == 52_500 + 1_300
    assert row["retransmitted_segments"] == 2
    # 100 kB at 10 Mbit/s take 80 ms, 83.6 ms in full frames, and 20 ms to get there.
    assert row["bound_download_s"] == pytest.approx(0.080 * 1514 / 1448 + 0.020)
    assert row["bound_s"] == pytest.approx(row["bound_download_s"] + row["bound_upload_s"] + 0.6)
    assert rounds.iloc[0]["latency_s"] == pytest.approx(1.83)
    assert rounds.iloc[0]["clients_finished"] == 1
    assert record.contradictions(clients, LINKS) == []
    assert (row["downlink_kind"], row["update_norm"], row["residual_norm"]) == ("delta", 2.0, 0.25)


def test_a_reply_that_comes_after_the_next_round_began_is_not_counted_twice() -> None:
    """The last uploader's own reading follows round_start of the next round, often by an RTT."""
    events = one_round()
    second = [
        event(2.84, "server", "round_start", round=2, cohort=["dev0"]),
        event(2.841, "server", "download_start", round=2, client="dev0", payload_bytes=100_000),
        event(3.0, "dev0", "download_end", round=2, payload_bytes=100_000, message_bytes=100_100,
              **counters(57_000, 212_000, 2)),
    ]  # fmt: skip
    _, clients = tables(sorted([*events, *second], key=lambda e: e["t"]))
    assert clients.iloc[1]["wire_down_bytes"] == (57_000 - 55_000) + (212_000 - 107_000)


def test_a_wire_that_carried_less_than_the_message_is_a_contradiction() -> None:
    events = one_round()
    events[3]["rx_bytes"] = 90_000
    _, clients = tables(events)
    assert "round 1, dev0: bytes down contradict" in record.contradictions(clients, LINKS)[0]


def test_a_message_without_payload_may_have_been_read_with_the_reply_before_it() -> None:
    """As of a scheme that sends nothing: round_start arrives with the reply to the last upload."""
    events = one_round()
    events[3] |= {"message_bytes": 42, "rx_bytes": 600, "tx_bytes": 500}
    events[2]["payload_bytes"] = events[3]["payload_bytes"] = 0
    _, clients = tables(events)
    assert clients.iloc[0]["wire_down_bytes"] == 0
    assert record.contradictions(clients, LINKS) == []


def test_an_upload_faster_than_its_link_is_a_contradiction() -> None:
    events = one_round()
    events[7]["t"] = 2.45  # 50 kB in 0.35 s on a link of 1 Mbit/s
    _, clients = tables(events)
    assert "upload of 0.350 s is faster than the link's 0.400 s" in record.contradictions(clients, LINKS)[0]


def test_work_that_outlasts_its_profile_says_which_dilation_would_fit() -> None:
    events = one_round()
    events[5]["overrun_s"] = 0.2
    _, clients = tables(events)
    (reason,) = record.contradictions(clients, LINKS)
    assert "0.20 s longer than the compute profile" in reason and "dilation=1.5 would fit" in reason


def test_a_device_lost_during_its_upload_keeps_its_row_and_its_bytes() -> None:
    events = [e for e in one_round() if e["event"] not in ("upload_received", "upload_end")]
    events[-1]["outcomes"] = {"dev0": "lost"}
    lost = event(2.79, "server", "client_lost", round=1, client="dev0", received=20_000)
    exit_ = event(2.5, "runner", "client_exit", client="dev0", status=-9, **counters(25_500, 106_000))
    rounds, clients = tables(sorted([*events, lost, exit_], key=lambda e: e["t"]))
    row = clients.iloc[0]
    assert row["outcome"] == "lost"
    assert row["received_up_bytes"] == 20_000
    assert row["wire_up_bytes"] == 23_000 + 300
    assert row["exit_status"] == -9
    assert pd.isna(row["upload_s"])
    assert rounds.iloc[0]["clients_finished"] == 0


def test_a_connection_that_broke_in_a_download_hides_none_of_its_bytes() -> None:
    """The device reads its counters when it is connected again; what came before is this round's, too."""
    events = one_round()
    again = event(1.2, "dev0", "connected", **counters(1_500, 50_600))
    _, clients = tables(sorted([*events, again], key=lambda e: e["t"]))
    assert clients.iloc[0]["wire_down_bytes"] == 107_000


def test_a_late_device_keeps_what_it_cost_and_what_became_of_it() -> None:
    """Closed at 2.81 with 20 kB of 50; the rest came later and counted in round 2."""
    events = [e for e in one_round() if e["event"] not in ("upload_received", "upload_end")]
    events[-1]["outcomes"] = {"dev0": "late"}
    late = event(2.815, "server", "client_late", round=1, client="dev0", received=20_000)
    _, clients = tables(sorted([*events, late], key=lambda e: e["t"]))
    row = clients.iloc[0]
    assert (row["outcome"], row["received_up_bytes"]) == ("late", 20_000)
    assert pd.isna(row["upload_s"]) and pd.isna(row["used_in_round"])
    used = event(3.5, "server", "late_update_used", round=1, client="dev0", used_in=2, staleness=1, weight=7,
                 payload_bytes=50_000, message_bytes=50_080)  # fmt: skip
    end = event(
        3.6, "dev0", "upload_end", round=1, status="STATUS_OK", attempts=1, **counters(55_000, 107_000, 2)
    )
    _, clients = tables(sorted([*events, late, used, end], key=lambda e: e["t"]))
    row = clients.iloc[0]
    assert (row["outcome"], row["received_up_bytes"], row["used_in_round"]) == ("late", 50_000, 2)
    assert row["message_up_bytes"] == 50_080 and row["wire_up_bytes"] == 53_800
    assert pd.isna(row["wait_s"])


def test_what_a_kernel_sends_after_its_process_died_is_counted() -> None:
    events = [e for e in one_round() if e["event"] not in ("upload_received", "upload_end")]
    events[-1]["outcomes"] = {"dev0": "lost"}
    exit_ = event(2.5, "runner", "client_exit", client="dev0", status=-9, **counters(25_500, 106_000))
    drained = event(9.0, "runner", "client_drained", client="dev0", round=1, **counters(29_500, 106_200))
    _, clients = tables(sorted([*events, exit_, drained], key=lambda e: e["t"]))
    row = clients.iloc[0]
    assert row["wire_up_bytes"] == 23_000 + 300 + 4_000 + 200
    assert row["exit_status"] == -9


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path) -> None:
    whole = json.dumps(event(1.0, "dev0", "connected"))
    (tmp_path / "dev0.jsonl").write_text(whole + "\n" + whole[:20])
    assert [e["t"] for e in timeline.read_events(tmp_path)] == [1.0]


def test_tables_and_manifest_are_written_whole(tmp_path) -> None:
    record.write_table(pd.DataFrame([{"a_s": 1 / 3}]), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "a_s\n0.333333\n"
    with pytest.raises(ValueError, match="JSON"):
        record.write_manifest({"loss": float("nan")}, tmp_path / "manifest.json")
    assert not (tmp_path / "manifest.json").exists()
