"""Reports of runs of every fate: what each says, and that it says it at all."""

from __future__ import annotations

import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import config
from experiments.report import about, libraries, series, words
from experiments.report.read import NotARunError, read_run
from experiments.report.report import render, write_report
from tests.conftest import fedcell_json
from tests.experiments.report_runs import CELL, check, write_run
from tests.experiments.test_report_page import EVIL, harmless


def text_of(html: str) -> str:
    """What a reader sees of a page, roughly."""
    body = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def data_of(html: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    data: dict[str, Any] = json.loads(found)
    return data


def test_a_real_run_is_told_from_question_to_manifest() -> None:
    html = render(read_run(CELL))
    text = text_of(html)
    assert (
        "How long does a round of federated LoRA fine-tuning take, and what does it put on the wire, when "
        "4 devices on links of 2 to 10 Mbit/s up and 10 to 50 Mbit/s down train LoRA adapters of rank 16 of "
        "the bundled base and send them up as fp16?"
    ) in text
    assert "Valid 35 calibration checks passed, and no table contradicts physics." in text
    for title in (
        "Calibration",
        "Timeline",
        "Latency",
        "Bytes",
        "Held-out loss",
        "Samples",
        "Links",
        "Manifest",
    ):
        assert title in text
    assert "18.069" in text  # round 1's latency
    assert html.count('<img src="data:image/png;base64,') == 1
    assert len(html) < 3e6


def test_charts_get_the_tables_numbers() -> None:
    data = data_of(render(read_run(CELL)))
    clients = pd.read_csv(CELL / "clients.csv")
    assert data["clients"]["upload_s"] == clients["upload_s"].tolist()
    assert data["timeline"]["lanes"] == ["server", "dev0", "dev1", "dev2", "dev3"]
    dev0 = clients[clients["client"] == "dev0"]
    assert data["means"]["wire_up_bytes"][0] == pytest.approx(dev0["wire_up_bytes"].mean())
    assert data["losses"]["t_s"][0] == 0.0 and data["losses"]["t_s"][-1] > 60


def test_an_invalid_run_says_why_first(tmp_path: Path) -> None:
    reasons = [f"reason {number}" for number in range(12)]
    checks = [check("dev0", "up", True), check("dev0", "down", False), check("dev1", "up", None)]
    run = write_run(
        tmp_path / "r", valid=False, invalid_reasons=reasons, warnings=["look"], calibration=checks
    )
    html = render(read_run(run))
    text = text_of(html)
    assert text.index("Invalid: these numbers cannot be trusted reason 0") < text.index("What was run")
    assert "and 4 more" in text and "reason 11" in text and "1 warning look" in text
    assert "1 of 2 checks passed, 1 had no time to be made." in text
    calibration = html[html.index('<section id="calibration">') :]
    assert not calibration.startswith(
        '<section id="calibration">\n    <details>'
    )  # a miss is not folded away
    rows = re.findall(r"(✗ miss|✓ pass|not tested)</span>", calibration)
    assert rows == ["✗ miss", "✓ pass", "not tested"]


def test_a_run_that_was_interrupted_has_no_tables_and_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", tables=False, valid=False, invalid_reasons=["interrupted"])
    html = render(read_run(run))
    assert "Invalid: the run was interrupted" in text_of(html)
    assert data_of(html)["timeline"]["lanes"] == ["server", "dev0", "dev1"]
    assert 'data-chart="latency"' not in html


def test_a_run_that_was_killed_at_once_has_a_report(tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir()
    config_only = {"run": "r", "config": {}, "valid": False, "invalid_reasons": ["the run has not ended"]}
    (run / "manifest.json").write_text(json.dumps(config_only))
    text = text_of(render(read_run(run)))
    assert "Invalid: the run has not ended" in text and "no link was measured" in text


def test_a_run_without_rounds_has_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", rounds=0, valid=False, invalid_reasons=["0 of 2 rounds took place"])
    assert "0 of 2 rounds took place" in text_of(render(read_run(run)))


def test_a_hundred_devices_fit_into_a_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", devices=100, rounds=10)
    html = render(read_run(run))
    assert len(html) < 4e6
    data = data_of(html)
    assert len(data["timeline"]["lanes"]) == 101 and len(data["clients"]["round"]) == 1000
    assert "dev0 to dev99" in text_of(html)
    assert "The first 600 of 1000 rows; the others are in clients.csv." in text_of(html)


def test_an_older_run_lacks_columns_and_has_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r")
    for name, kept in (
        ("rounds", ["round", "start_s", "latency_s"]),
        ("clients", ["round", "client", "outcome", "download_s", "upload_s", "aggregate_s"]),
        ("links", ["round", "link", "direction", "offered_frames"]),
    ):
        pd.read_csv(run / f"{name}.csv")[kept].to_csv(run / f"{name}.csv", index=False)
    manifest = json.loads((run / "manifest.json").read_text())
    for key in ("topology", "machine", "calibration", "backend", "warnings"):
        del manifest[key]
    (run / "manifest.json").write_text(json.dumps(manifest))
    assert "not on record" in text_of(render(read_run(run)))


def test_newer_columns_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r")
    rounds = pd.read_csv(run / "rounds.csv").assign(analytic_s=4.25, epsilon=[1.5, 2.5])
    rounds.to_csv(run / "rounds.csv", index=False)
    clients = pd.read_csv(run / "clients.csv").assign(
        energy_compute_j=10.0, energy_radio_j=2.5, extrapolated=True
    )
    clients.to_csv(run / "clients.csv", index=False)
    html = render(read_run(run))
    text = text_of(html)
    assert data_of(html)["rounds"]["analytic_s"] == [4.25, 4.25]
    assert "2.5 ε spent" in text and "50 J energy" in text and "4 of 4 rows of clients.csv" in text


def test_a_run_with_hostile_names_is_harmless(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", run=EVIL, warnings=[EVIL], command=EVIL, backend=EVIL)
    for name in ("clients", "links"):
        table = pd.read_csv(run / f"{name}.csv")
        table.replace("dev1", EVIL).to_csv(run / f"{name}.csv", index=False)
    html = render(read_run(run))
    harmless(html)
    assert EVIL in data_of(html)["timeline"]["lanes"] or EVIL in data_of(html)["clients"]["client"]


def test_the_configuration_in_it_runs_again(tmp_path: Path) -> None:
    run = read_run(CELL)
    text = re.findall(r"<pre[^>]*>(.*?)</pre>", str(about.reproduce(run)), re.DOTALL)[-1]
    file = tmp_path / "again.yaml"
    file.write_text(unescape(text))
    asked = {key: value for key, value in run.manifest["config"].items() if key != "base"}
    assert config.load(file) == config.Experiment.model_validate(asked)


def test_the_command_writes_the_page_and_says_where(tmp_path: Path) -> None:
    run = tmp_path / "cell"
    shutil.copytree(CELL, run)
    document = fedcell_json("report", run)
    assert document == {"run_dir": str(run), "report": str(run / "report.html")}
    first = (run / "report.html").read_text()
    assert first.startswith("<!doctype html>")
    assert write_report(run, tmp_path / "x" / "other.html").read_text() == first


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match=r"manifest.json"):
        read_run(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(NotARunError, match="no configuration"):
        read_run(tmp_path)
    run = write_run(tmp_path / "r")
    (run / "rounds.csv").write_text("a,b\n1,2\n")
    with pytest.raises(NotARunError, match="has no column"):
        read_run(run)


def test_a_missing_library_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCELL_CACHE", str(tmp_path))
    with pytest.raises(libraries.LibraryError, match=r"run `make setup`"):
        libraries.read_all()


def test_thinning_keeps_every_dip_and_peak() -> None:
    rates = [100.0] * 5000
    rates[1234], rates[4321] = 0.0, 900.0
    table = pd.DataFrame({"t_s": range(5000), "rate_bps": rates})
    thin = series.thinned(table, "rate_bps", 100)
    assert len(thin) <= 100 and thin["t_s"].is_monotonic_increasing
    assert {0.0, 900.0} <= set(thin["rate_bps"]) and {0, 4999} <= set(thin["t_s"])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.rate(5e6), "5 Mbit/s"),
        (words.size(290_816), "290.8 kB"),
        (words.size(0), "0 B"),
        (words.size(None), "–"),
        (words.percent(0.005), "0.5 %"),
        (words.span([2e6, 10e6, None, 2e6], words.rate), "2 to 10 Mbit/s"),
        (words.span([64e3, 10e6], words.rate), "64 kbit/s to 10 Mbit/s"),
        (words.span([2e6], words.rate), "2 Mbit/s"),
        (words.listed(["dev0", "dev1", "dev2", "dev5", "dev6"]), "dev0 to dev2, dev5, dev6"),
        (words.number(float("nan")), "–"),
        (words.number(1234567), "1,234,567"),
        (words.of_metric("rate", 5e6), "5 Mbit/s"),
        (words.of_metric("timing", 0.0004), "0.4 ms"),
        (words.of_metric("gap_p99", 0.0123), "1.23 %"),
        (words.of_metric("burst", 2.5), "2.5 frames"),
        (words.of_metric("burst", None), "–"),
    ],
)
def test_numbers_are_written_with_units(written: str, expected: str) -> None:
    assert written == expected
