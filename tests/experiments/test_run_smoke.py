"""One whole run as its user starts it: real network, processes, gRPC; a synthetic trainer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import config
from experiments.report.read import read_run
from experiments.report.report import render
from experiments.report.spans import SERVER, from_events
from experiments.timeline import PHASES
from proto.adapter import load_adapter
from tests.conftest import CONFIGS, NOISE, REPOSITORY, fedcell, fedcell_json, traces, valid_run

SMOKE = CONFIGS / "smoke.yaml"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of smoke.yaml, for all tests that only look at it."""
    before = traces()
    document = valid_run(SMOKE, f"output={tmp_path_factory.mktemp('runs')}")
    assert traces() == before
    return document


def test_the_document_has_what_others_rely_on(smoke: dict[str, Any]) -> None:
    assert smoke["valid"] == (not smoke["invalid_reasons"])  # valid_run lets the machine's own stalls pass
    assert [row["round"] for row in smoke["rounds"]] == [1, 2]
    for row in smoke["rounds"]:
        assert row["clients_finished"] == 2
        assert row["payload_down_bytes"] == 2 * 797_184 * 2  # two devices, fp16
        assert row["payload_up_bytes"] == 2 * (797_184 + 2 * 12_456)  # int8: a byte a value, 2 a block of 64
        assert row["latency_s"] >= row["bound_s"]


def test_every_level_of_bytes_and_every_phase_is_in_the_tables(smoke: dict[str, Any]) -> None:
    run_dir = Path(smoke["run_dir"])
    clients = pd.read_csv(run_dir / "clients.csv")
    assert len(clients) == 4 and (clients["outcome"] == "finished").all()
    links = {link.device: link for link in config.load(SMOKE).links()}
    for row in clients.to_dict("records"):
        for way in ("down", "up"):
            wire, message, payload = (row[f"{level}_{way}_bytes"] for level in ("wire", "message", "payload"))
            assert wire >= message >= payload
            assert wire <= 1.15 * payload  # headers 4.6 %, ACKs 2 %; the rest is for retransmissions
        link = links[row["client"]]
        assert row["upload_s"] >= row["payload_up_bytes"] * 8 / link.up.rate_bps
        assert row["download_s"] >= row["bound_download_s"] * 0.99
    assert len(pd.read_csv(run_dir / "links.csv")) == 2 * 2 * 2
    rounds = pd.read_csv(run_dir / "rounds.csv")
    phases = [f"{p}_s" for p in ("download", "gate", "compute", "encode", "upload", "wait", "aggregate")]
    for number, latency in zip(rounds["round"], rounds["latency_s"], strict=True):
        # What a device does in a round fills it but for hand-overs between processes.
        spent = clients[clients["round"] == number][phases].sum(axis=1)
        assert (spent <= latency + 1e-3).all() and (spent >= 0.9 * latency).all()


def test_the_manifest_says_what_was_run_and_measured(smoke: dict[str, Any]) -> None:
    manifest = json.loads((Path(smoke["run_dir"]) / "manifest.json").read_text())
    assert manifest["valid"] is smoke["valid"]
    assert manifest["backend"] in ("relay", "netem")
    assert manifest["machine"]["packages"]["grpcio"]
    measured = {(c["link"], c["direction"], c["metric"]) for c in manifest["calibration"]}
    assert {(d, w, "rate") for d in ("dev0", "dev1") for w in ("up", "down")} <= measured
    assert manifest["hosts"]["server"]
    config.Experiment.model_validate({k: v for k, v in manifest["config"].items() if k != "base"})


def test_adapters_and_figures_are_there(smoke: dict[str, Any]) -> None:
    run_dir = Path(smoke["run_dir"])
    adapters = [load_adapter(run_dir / "adapters" / f"round-{n:04d}.safetensors") for n in range(3)]
    assert all(layout.size == 797_184 for layout, _ in adapters)
    assert not (adapters[0][1] == adapters[1][1]).all() and not (adapters[1][1] == adapters[2][1]).all()
    for name in ("latency", "bytes"):
        assert (run_dir / "figures" / f"{name}.png").stat().st_size > 10_000
        assert (run_dir / "figures" / f"{name}.pdf").stat().st_size > 5_000


def test_figures_can_be_drawn_again(smoke: dict[str, Any]) -> None:
    target = Path(smoke["run_dir"]) / "figures" / "latency.png"
    target.unlink()
    assert str(target) in fedcell_json("figures", smoke["run_dir"])["figures"]
    assert target.exists()


def test_a_report_of_it_shows_every_phase_of_every_device(smoke: dict[str, Any]) -> None:
    run = read_run(Path(smoke["run_dir"]))
    clients = run.tables["clients"].set_index(["round", "client"])
    found = [span for span in from_events(run.events) if span.lane != SERVER]
    assert len(found) == len(clients) * len(PHASES) and all(span.ended for span in found)
    for span in found:
        in_table_s = clients.loc[(span.round, span.lane), f"{span.phase}_s"]
        assert span.end_s - span.start_s == pytest.approx(in_table_s, abs=2e-6)
    assert str(run.manifest["command"]).startswith("fedcell run ")
    assert "exchange synthetic updates" in render(run)


def test_there_is_nothing_to_evaluate_in_it(smoke: dict[str, Any]) -> None:
    done = fedcell("evaluate", smoke["run_dir"])
    assert done.returncode == 2
    assert "synthetic" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_the_same_seed_gives_the_same_adapter(smoke: dict[str, Any], tmp_path: Path) -> None:
    """Other links, so updates arrive in another order; the bits are the same."""
    swapped = ["network.devices.0.up.rate=50mbit", "network.devices.1.up.rate=5mbit"]
    again = valid_run(SMOKE, f"output={tmp_path}", *swapped)
    first, second = (
        (Path(run["run_dir"]) / "adapters" / "round-0002.safetensors").read_bytes() for run in (smoke, again)
    )
    assert first == second


def test_two_runs_at_once_do_not_disturb_each_other(smoke: dict[str, Any], tmp_path: Path) -> None:
    """Same names, same addresses, same port: each has a network of its own, and the same result."""
    command = [sys.executable, "-m", "experiments.cli", "run", str(SMOKE), f"output={tmp_path}", "--json"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
        for _ in range(2)
    ]
    documents = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert len({document["run_dir"] for document in documents}) == 2
    expected = (Path(smoke["run_dir"]) / "adapters" / "round-0002.safetensors").read_bytes()
    for document in documents:
        # Two relays on two cores may be late; they say so, and nothing else may be wrong.
        assert all(NOISE.search(reason) for reason in document["invalid_reasons"])
        assert (Path(document["run_dir"]) / "adapters" / "round-0002.safetensors").read_bytes() == expected


def start_long_run(output: Path) -> subprocess.Popen[str]:
    """A run of 50 rounds that is past its first."""
    command = [sys.executable, "-m", "experiments.cli", "run", str(SMOKE), f"output={output}", "rounds=50"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stderr is not None
    for line in process.stderr:
        if "round 1/" in line:
            break
    return process


def test_ctrl_c_leaves_nothing_but_an_invalid_manifest(tmp_path: Path) -> None:
    before = traces()
    process = start_long_run(tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    manifest = json.loads((tmp_path / "latest" / "manifest.json").read_text())
    assert manifest["valid"] is False and manifest["invalid_reasons"] == ["interrupted"]
    assert traces() == before


def test_sigkill_leaves_no_process_and_no_interface(tmp_path: Path) -> None:
    before = traces()
    process = start_long_run(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=10)
    deadline = time.monotonic() + 10
    while traces() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert traces() - before == set()
    manifest = json.loads((tmp_path / "latest" / "manifest.json").read_text())
    assert manifest["valid"] is False
