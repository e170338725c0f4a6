"""The paper suite: what it plans, its tables against runs made by hand, its figures and its page."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from client.diffusion.retrieval import Answers
from experiments import cli
from experiments.paper import headline, learned, scores, suite, tables
from experiments.paper.figures import cost, marks
from experiments.paper.measured import Measured, measured
from experiments.paper.over_seeds import over_seeds
from experiments.paper.plan import trials_of
from experiments.paper.presets import FULL_SUITE, QUICK, Preset
from experiments.paper.schemes import SCHEMES
from experiments.sweep import Trial
from experiments.sweep.trial import check
from tests.experiments.paper_runs import fake_trials

TINY = replace(QUICK, seeds=(1, 2), learning_rounds=2, retrieval_rounds=(2,), queries=4, splits=("known",))


@cache
def planned(preset: Preset) -> dict[Any, list[Trial]]:
    """A trial's configuration takes a while to check."""
    return dict(trials_of(preset))


def found(preset: Preset, folder: Path, outcome: Any = lambda trial: "valid") -> Measured:
    run = fake_trials(outcome)
    sweeps = [(wanted, run(wanted, folder / family)) for family, wanted in planned(preset).items()]
    return tables.prepared(measured(sweeps, folder))


@pytest.mark.parametrize("preset", [QUICK, FULL_SUITE], ids=lambda preset: preset.name)
def test_presets_are_experiments_that_cover_what_was_asked_for(preset: Preset) -> None:
    assert len(preset.seeds) >= (1 if preset is QUICK else 3)
    by_family = trials_of(replace(preset, seeds=preset.seeds[:1]))
    for wanted in by_family.values():
        check(wanted)
    every = [trial for wanted in by_family.values() for trial in wanted]
    by_part: dict[str, list[Trial]] = {}
    for trial in every:
        by_part.setdefault(str(trial.labels["part"]), []).append(trial)
    for part in ("schemes", "learning"):
        assert {trial.labels["setting"] for trial in by_part[part]} == set(SCHEMES)
    rates = [link.up.rate_bps for trial in by_part["bandwidth"] for link in trial.experiment.links()]
    assert (min(rates), max(rates)) == (0.5e6, 100e6)
    sizes = {len(trial.experiment.expanded_devices()) for trial in by_part["devices"]}
    assert (min(sizes), max(sizes)) == (2, 32)
    controls = {trial.experiment.network.congestion_control for trial in by_part["paths"]}
    assert controls == {"cubic", "bbr"}
    assert all(trial.experiment.dilation == 1 for trial in by_part["paths"])
    assert len({trial.labels["point"] for trial in by_part["allocation"]}) == 4


def test_means_over_seeds_take_the_valid_ones_and_say_what_is_missing() -> None:
    rows = pd.DataFrame(
        {
            "scheme": ["a", "a", "a", "a", "b"],
            "seed": [1, 1, 2, 3, 1],
            "valid": [True, True, True, False, False],
            "extrapolated": [False, True, False, False, False],
            "latency_s": [1.0, 3.0, 4.0, 100.0, 7.0],
        }
    )
    a, b = over_seeds(rows, ["scheme"], ["latency_s"]).to_dict("records")
    assert (a["latency_s"], a["seeds"], a["invalid"]) == (3.0, 2, 1) and a["valid"] and a["extrapolated"]
    assert a["latency_s_half"] == pytest.approx(12.706 * math.sqrt(2) / math.sqrt(2))
    assert (b["latency_s"], b["valid"], b["seeds"]) == (7.0, False, 0) and math.isnan(b["latency_s_half"])


def test_costs_are_a_device_s_and_totals_grow_round_by_round(tmp_path: Path) -> None:
    measured_ = found(TINY, tmp_path)
    costs = tables.cost(measured_).set_index(["family", "scheme"])
    lora = costs.loc["sd15", "lora-4"]
    assert (lora["up_bytes"], lora["down_bytes"], lora["total_bytes"]) == (1e6, 2e6, 6e6)
    assert costs.loc[("sd15", "full"), "extrapolated"] and not lora["extrapolated"]
    assert costs.loc[("bundled", "local"), "total_bytes"] == 0
    by_round = tables.cost_by_round(measured_)
    central = by_round[(by_round["family"] == "sd15") & (by_round["scheme"] == "central")]
    assert central["total_bytes"].tolist() == [9e6, 9e6]


def test_latency_is_stacked_by_the_device_that_was_last(tmp_path: Path) -> None:
    table = tables.latency(found(TINY, tmp_path)).set_index(["family", "scheme"])
    row = table.loc["bundled", "lora-4"]  # two devices: dev1 computes for 3 s
    assert (row["latency_s"], row["compute_s"], row["upload_s"]) == (5.5, 3.0, 1.0)
    phases = [f"{phase}_s" for phase in ("download", "compute", "upload", "aggregate", "other")]
    assert row[phases].sum() == pytest.approx(5.5)


def test_factors_are_between_trials_of_one_seed_and_say_where_they_do_not_hold(tmp_path: Path) -> None:
    measured_ = found(TINY, tmp_path)
    losses = pd.DataFrame(
        {"trial": row["trial"], "round": number, "loss": 0.5 if row["scheme"] == "full" else 0.6}
        for row in measured_.trials.to_dict("records")
        for number in (1, 2)
    )
    table = headline.headline(measured_, losses)
    by_key = table.set_index(["family", "scheme", "against"])
    lora = by_key.loc["bundled", "lora-4", "full"]
    assert (lora["bytes_factor"], lora["loss_ratio"]) == (1000, pytest.approx(1.2))
    assert lora["latency_factor"] == pytest.approx(1004.5 / 5.5) and lora["extrapolated"]
    central = by_key.loc["bundled", "lora-16", "central"]
    # 12 MB a round against 9 MB once.
    assert (central["bytes_factor"], central["break_even_rounds"]) == (pytest.approx(4.5 / 12), 0.75)
    told = list(headline.where_not(table, tables.bandwidth(measured_), tables.energy(measured_)))
    assert any("LoRA r=16 has sent as much as central" in line and "0.75 rounds" in line for line in told)
    assert any("LoRA r=4 ends with a higher loss than full: +20.0%" in line for line in told)
    assert any("at 0.5 Mbit/s" in line and "at 100 Mbit/s" in line for line in told)
    assert any("full does not fit the memory of phone" in line for line in told)
    told = list(headline.claims(table))
    assert any("LoRA r=4 against full" in line and "1,000 ± 0 times fewer bytes" in line for line in told)
    assert any("LoRA r=16 against central" in line and "2.67 ± 0 times more bytes" in line for line in told)


def test_a_factor_has_its_interval_whichever_way_it_is_said() -> None:
    row = {"family": "sd15", "scheme": "lora-16", "against": "central", "rounds": 2.0, "loss_ratio": 1.05}
    row |= {"bytes_factor": 0.5, "bytes_factor_half": 0.01, "latency_factor": 8.0, "latency_factor_half": 0.3}
    row |= {"loss_ratio_half": 0.004, "valid": True, "extrapolated": False}
    (claim,) = headline.claims(pd.DataFrame([row]))
    assert claim.endswith("2 ± 0.04 times more bytes, 8 ± 0.3 times less time, final loss +5.0% ± 0.4%")


def test_invalid_trials_invalidate_their_factors(tmp_path: Path) -> None:
    measured_ = found(
        TINY, tmp_path, lambda trial: "invalid" if trial.labels["setting"] == "full" else "valid"
    )
    table = headline.headline(measured_, pd.DataFrame(columns=["trial", "round", "loss"]))
    valid = table.set_index(["family", "scheme", "against"])["valid"]
    assert not valid["bundled", "lora-4", "full"] and valid["bundled", "lora-4", "central"]
    assert any("INVALID" in line for line in headline.claims(table))


class FakeScorer:
    """Losses that fall, drawings of which every second is in the right style."""

    def __init__(self, base: str, per_style: int) -> None:
        pass

    def losses(self, run_dir: Path) -> dict[int, float]:
        return {0: 0.7, 1: 0.5, 2: 0.4, 3: 0.3}

    def retrieval(self, run_dir: Path, split: str, count: int, part: int, parts: int, number: int) -> Answers:
        names = np.array([f"thing-{i}" for i in range(4)])
        right = np.arange(4) % 2 == number % 2
        return Answers(
            names, np.full(4, "twemoji"), np.where(right, 1, 9), right, np.eye(4, 128, dtype=np.float32)
        )

    def ceiling(self, split: str, count: int) -> Answers:
        return self.retrieval(Path(), split, count, 0, 1, 0)


class FakeGallery:
    names = np.array([f"thing-{i}" for i in range(10)])
    features = dict.fromkeys(("noto", "twemoji", "openmoji", "fluent"), np.eye(10, 128, dtype=np.float32))

    def __len__(self) -> int:
        return 40


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(suite, "trials_of", planned)
    monkeypatch.setattr(suite, "run_trials", fake_trials())
    monkeypatch.setattr(scores, "Scorer", FakeScorer)
    monkeypatch.setattr(scores, "load_gallery", lambda split: FakeGallery())
    monkeypatch.setattr(
        scores, "_attack", lambda run_dir, preset: {"auc": 0.6, "auc_low": 0.5, "auc_high": 0.7}
    )
    return monkeypatch


def test_the_suite_ends_with_all_figures_tables_and_the_page(
    faked: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    faked.setattr("experiments.paper.presets.QUICK", TINY)
    result = CliRunner().invoke(cli.app, ["paper", "--quick", "--output", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert set(document["figures"]) == set(suite.FIGURES) and len(document["figures"]) == 10
    for path in map(Path, document["figures"].values()):
        assert path.suffix == ".pdf" and path.exists() and path.with_suffix(".png").exists()
    assert document["valid"] and not document["not_valid"] and document["headline"] and document["claims"]
    page = Path(document["report"]).read_text()
    assert page.count("data:image/png;base64,") == 10 and "All" in page
    for name in (*tables.TABLES, "trials", "learning", "retrieval", "privacy", "headline"):
        assert len(pd.read_csv(tmp_path / f"{name}.csv")), name


def test_what_is_not_valid_is_named_everywhere(faked: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def outcome(trial: Trial) -> str:
        if trial.labels["setting"] == "central":
            return "failed"
        return "invalid" if trial.labels["part"] in ("paths", "allocation") else "valid"

    faked.setattr(suite, "run_trials", fake_trials(outcome))
    result = suite.run(TINY, tmp_path)
    assert not result.valid
    assert {line.split(":")[0] for line in result.troubles} == {"FAILED", "INVALID"}
    page = result.report.read_text()
    assert "central" in page and "the relay was late" in page and "trials are not valid" in page
    assert "central" not in set(result.tables["latency"]["scheme"])
    figure = suite.FIGURES["latency"](result.tables)
    assert any("FAILED: central" in text.get_text() for text in figure.texts)
    crosses = suite.FIGURES["paths"](result.tables)
    assert _markers(crosses, "x") > 0 and _markers(suite.FIGURES["bandwidth"](result.tables), "x") == 0


def _markers(figure: Figure, marker: str) -> int:
    return sum(line.get_marker() == marker for axes in figure.axes for line in axes.lines)


def test_extrapolated_points_are_open() -> None:
    axes = Figure().subplots()
    row = {"valid": True, "extrapolated": True}
    marks.point(axes, 1, 1, ("#000000", "o"), row)
    marks.point(axes, 1, 1, ("#000000", "o"), row | {"extrapolated": False})
    assert [line.get_markerfacecolor() for line in axes.lines] == ["white", "#000000"]


def test_totals_are_carried_on_by_what_a_round_sends_and_central_training_s_stay_as_they_are() -> None:
    rows = pd.DataFrame(
        {
            "family": "sd15",
            "scheme": scheme,
            "round": number,
            "total_bytes": total,
            "total_bytes_half": math.nan,
        }
        | {"valid": True, "extrapolated": False}
        for scheme, totals in (("lora-4", (4e6, 8e6)), ("central", (30e6, 34e6)))
        for number, total in enumerate(totals, 1)
    )
    axes = Figure().subplots()
    cost._totals(axes, rows)
    ends = [line.get_ydata()[-1] for line in axes.lines if line.get_linestyle() == "--"]
    assert sorted(ends) == pytest.approx([34, 4 * 100])  # MB after a hundred rounds


def test_figures_without_anything_measured_say_so(tmp_path: Path) -> None:
    nothing = found(TINY, tmp_path, lambda trial: "failed")
    empty = {name: make(nothing) for name, make in tables.TABLES.items()}
    asked = scores.Scores(*(pd.DataFrame(columns=[*scores.HEAD, "round", "loss", "time_s"]),) * 3)
    empty |= {"trials": nothing.trials, "learning": learned.learned(asked.losses)}
    empty["retrieval"] = pd.DataFrame(columns=["scheme", "round", "names", "style_accuracy"])
    for name, draw in suite.FIGURES.items():
        if name == "privacy":
            continue
        texts = [text.get_text() for axes in draw(empty).axes for text in axes.texts]
        assert "nothing measured" in texts, name
