"""Who did what when: from events to the instant, from tables to the millisecond."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments import timeline
from experiments.report import spans
from experiments.report.spans import AWAY, ROUND, SERVER, Span
from tests.experiments.report_runs import one_round, write_run


def of(found: list[Span], lane: str, phase: str, number: int = 1) -> Span:
    (one,) = [s for s in found if (s.lane, s.phase, s.round) == (lane, phase, number)]
    return one


def test_events_place_every_phase_since_round_1() -> None:
    found = spans.from_events(timeline.build([*one_round(1, ["dev0"]), *one_round(2, ["dev0"])]))
    assert [s.phase for s in found if s.lane == "dev0" and s.round == 1] == list(timeline.PHASES)
    upload = of(found, "dev0", "upload", 2)
    assert (upload.start_s, upload.end_s) == pytest.approx((14.51, 15.0))
    assert (of(found, SERVER, ROUND).start_s, of(found, SERVER, ROUND).end_s) == pytest.approx((0.0, 9.5))
    assert (of(found, SERVER, "aggregate").start_s, of(found, SERVER, "aggregate").end_s) == pytest.approx(
        (9, 9.5)
    )
    assert all(s.ended for s in found)


def test_tables_say_the_same_up_to_hand_overs(tmp_path: Path) -> None:
    run = write_run(tmp_path, devices=3)
    exact = spans.from_events(timeline.build(timeline.read_events(run / "events")))
    told = spans.from_tables(pd.read_csv(run / "rounds.csv"), pd.read_csv(run / "clients.csv"))
    assert {(s.lane, s.round, s.phase) for s in told} == {(s.lane, s.round, s.phase) for s in exact}
    for span in told:
        same = of(exact, span.lane, span.phase, span.round)
        assert (span.start_s, span.end_s) == pytest.approx((same.start_s, same.end_s), abs=0.011)


def test_a_device_that_was_lost_has_an_upload_that_did_not_end() -> None:
    events = [e for e in one_round(1, ["dev0"]) if e["event"] not in ("upload_received", "upload_end")]
    exit_ = {"t": 104.9, "process": "runner", "event": "client_exit", "client": "dev0", "status": -9}
    found = spans.from_events(timeline.build(sorted([*events, exit_], key=lambda e: e["t"])))
    upload = of(found, "dev0", "upload")
    assert not upload.ended and (upload.start_s, upload.end_s) == pytest.approx((4.51, 4.9))


def test_an_interrupted_run_ends_where_its_log_does() -> None:
    events = [e for e in one_round(1, ["dev0"]) if e["t"] <= 103]
    found = spans.from_events(timeline.build(events))
    assert [s.phase for s in found if not s.ended] == [ROUND, "compute"]
    compute = of(found, "dev0", "compute")
    assert (compute.start_s, compute.end_s) == pytest.approx((0.25, 0.25))


def test_a_remote_device_is_away() -> None:
    events = [e for e in one_round(1, ["dev0"]) if e["process"] == "server"]
    found = spans.from_events(timeline.build(events))
    away = of(found, "dev0", AWAY)
    assert away.ended and (away.start_s, away.end_s) == pytest.approx((0.01, 5.0))
    assert [s.phase for s in found if s.lane == "dev0"] == [AWAY, "wait", "aggregate"]


def test_of_a_device_that_did_not_finish_tables_know_the_beginning() -> None:
    rounds = pd.DataFrame([{"round": 1, "start_s": 2.0, "latency_s": 5.0}])
    lengths = dict.fromkeys([f"{phase}_s" for phase in timeline.PHASES], 0.5) | {
        "upload_s": float("nan"),
        "wait_s": float("nan"),
    }
    clients = pd.DataFrame([{"round": 1, "client": "dev0", "outcome": "lost", "remote": False, **lengths}])
    found = [s for s in spans.from_tables(rounds, clients) if s.lane == "dev0"]
    assert [(s.phase, s.start_s) for s in found] == [
        ("download", 2.0),
        ("gate", 2.5),
        ("compute", 3.0),
        ("encode", 3.5),
    ]
