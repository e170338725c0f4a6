"""Folders as runs leave them, for reports to be made of: real ones, and made ones of any size and fate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from emulation.link import AccessLink, LinkSpec
from experiments import record, timeline
from tests.conftest import REPOSITORY

CELL = REPOSITORY / "experiments" / "results" / "cell"
"""A real run of six rounds and four devices that was evaluated; its tables, without events."""

UP, DOWN = LinkSpec(2e6, 0.02), LinkSpec(10e6, 0.02)


def write_run(
    folder: Path, *, devices: int = 2, rounds: int = 2, tables: bool = True, **manifest: Any
) -> Path:
    """A run's folder; each device's phases take other times. `manifest` replaces what stands in it."""
    names = [f"dev{number}" for number in range(devices)]
    (folder / "events").mkdir(parents=True)
    events = [event for number in range(1, rounds + 1) for event in one_round(number, names)]
    (folder / "events" / "server.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "manifest.json").write_text(json.dumps(some_manifest(names, rounds) | manifest))
    if tables:
        built = timeline.build(timeline.read_events(folder / "events"))
        clients = record.clients_table(built, {name: AccessLink(name, UP, DOWN) for name in names})
        record.write_table(record.rounds_table(built, clients), folder / "rounds.csv")
        record.write_table(clients, folder / "clients.csv")
        record.write_table(pd.DataFrame(_links(names, rounds)), folder / "links.csv")
    return folder


def add_rare_tables(run: Path) -> None:
    """What only some runs have: a channel, losses of other styles, retrieval, a device that was lost."""
    where = [
        (step * 0.5, name, way) for step in range(40) for name in ("dev0", "dev1") for way in ("down", "up")
    ]
    channel = pd.DataFrame(where, columns=["t_s", "device", "direction"]).assign(
        cell=0, snr_db=12.5, rate_bps=3e6
    )
    channel.to_csv(run / "channel.csv", index=False)
    losses = [(number, style, 0.5 / (number + 1)) for number in range(3) for style in ("ink", "oil", "all")]
    pd.DataFrame(losses, columns=["round", "style", "loss"]).to_csv(run / "evaluation.csv", index=False)
    names = ("recall_at_1", "recall_at_5", "style_accuracy", "kid")
    values = {
        f"{name}{end}": value for name in names for end, value in (("", 0.5), ("_low", 0.4), ("_high", 0.6))
    }
    sources = [
        {"source": source, "names": "known", "style": "all", **values} for source in ("round 2", "ceiling")
    ]
    sources.append({"source": "chance", "names": "known", "style": "all", "recall_at_1": 0.01})
    pd.DataFrame(sources).to_csv(run / "retrieval.csv", index=False)
    log = run / "events" / "server.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    kept = [
        e
        for e in events
        if not (e["event"] == "upload_received" and e["round"] == 2 and e["client"] == "dev1")
    ]
    log.write_text("".join(json.dumps(event) + "\n" for event in kept))


def one_round(number: int, names: list[str]) -> list[dict[str, Any]]:
    """Its events: 100 kB down, 50 kB up; round 1 starts at 100 s and each takes 10 s."""
    start = 100.0 + 10.0 * (number - 1)
    found = [_event(start, "server", "round_start", number, cohort=names)]
    for place, name in enumerate(names):
        late = place * 0.9 / len(names)
        moved = (1000 + 200_000 * (number - 1), 2000 + 200_000 * (number - 1))
        found += [
            _event(start + 0.01, "server", "download_start", number, client=name, payload_bytes=100_000),
            _event(
                start + 0.2 + late, name, "download_end", number, payload_bytes=100_000,
                message_bytes=100_100, **_counters(moved[0] + 1000, moved[1] + 105_000),
            ),
            _event(start + 0.25 + late, name, "compute_start", number),
            _event(
                start + 4.25 + 2 * late, name, "compute_end", number, steps=5, loss=0.5, cpu_s=3.5,
                overrun_s=0.0,
            ),
            _event(
                start + 4.5 + 2 * late, name, "encode_end", number, payload_bytes=50_000,
                **_counters(moved[0] + 1000, moved[1] + 105_000),
            ),
            _event(start + 4.51 + 2 * late, name, "upload_start", number),
            _event(
                start + 5 + 3 * late, "server", "upload_received", number, client=name, payload_bytes=50_000,
                message_bytes=50_080,
            ),
            _event(
                start + 5.1 + 3 * late, name, "upload_end", number, status="STATUS_OK", attempts=1,
                **_counters(moved[0] + 54_000, moved[1] + 106_000),
            ),
        ]  # fmt: skip
    found += [
        _event(start + 9, "server", "aggregate_start", number),
        _event(start + 9.5, "server", "round_end", number, outcomes=dict.fromkeys(names, "finished")),
    ]
    return found


def _event(t: float, process: str, kind: str, number: int, **fields: Any) -> dict[str, Any]:
    return {"t": t, "process": process, "event": kind, "round": number, **fields}


def _counters(tx: int, rx: int) -> dict[str, int]:
    return {"tx_bytes": tx, "rx_bytes": rx, "retransmitted_segments": 0}


def some_manifest(names: list[str], rounds: int) -> dict[str, Any]:
    spec = {"rate_bps": 2e6, "delay_s": 0.02, "jitter_s": 0.0, "loss": 0.0, "queue_bytes": 50_000}
    edges = [{"lower": name, "upper": "cell", "link": name, "up": spec, "down": spec} for name in names]
    return {
        "run": "small-20260101-120000",
        "started": "2026-01-01T12:00:00+0000",
        "ended": "2026-01-01T12:01:00+0000",
        "config": {
            "name": "small",
            "seed": 3,
            "rounds": rounds,
            "dilation": 1.0,
            "model": "sd15",
            "adapter": {"rank": 4, "target_modules": ["to_q", "to_v"]},
            "training": {"trainer": "synthetic"},
            "uplink": {"codec": "int8"},
            "downlink": {"codec": "fp16"},
            "network": {"topology": "cell", "devices": [{"count": len(names)}]},
        },
        "machine": {"kernel": "6.1", "cores": 2, "python": "3.11", "packages": {"numpy": "2"}},
        "backend": "relay",
        "topology": {"edges": edges},
        "valid": True,
        "invalid_reasons": [],
        "warnings": [],
        "calibration": [check(name, way, True) for name in names for way in ("up", "down")],
    }


def check(link: str, direction: str, passed: bool | None) -> dict[str, Any]:
    """A calibration check as the manifest has it."""
    measured = {True: 2.001e6, False: 1.5e6, None: None}[passed]
    gate = "-1.0%/+1.0%"
    return {
        "link": link, "direction": direction, "metric": "rate", "configured": 2e6, "measured": measured,
        "gate": gate, "passed": passed, "bounds": [1.98e6, 2.02e6],
    }  # fmt: skip


def _links(names: list[str], rounds: int) -> list[dict[str, Any]]:
    return [
        {"round": number, "link": name, "direction": way, "offered_frames": 100, "delivered_frames": 98,
         "delivered_bytes": 110_000, "drops_queue": 2, "drops_loss": 0, "lateness_p99_s": 5e-5}
        for number in range(1, rounds + 1)
        for name in names
        for way in ("up", "down")
    ]  # fmt: skip
