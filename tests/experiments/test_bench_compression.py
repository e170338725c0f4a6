"""The compression bench: its numbers against hand-made trials, its verdict, tables and figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from client.diffusion.retrieval import Answers
from experiments import cli, kept_scores
from experiments.bench import compression, compression_rows, compression_tables
from experiments.bench.compression_curves import Curve, curve_of, to_table
from experiments.bench.compression_rows import claims, rows_of
from experiments.bench.compression_settings import FULL, PACKET_LOSS, QUICK, Preset, Setting
from experiments.bench.same_adapters import same_adapters
from experiments.config import ConfigError
from experiments.estimate import estimate
from experiments.sweep import Sweep, Trial

SEEDS = (1, 2, 3)


def curve(setting: str = "fp32", seed: int = 1, loss: float = 0.0, **changes: Any) -> Curve:
    """Four rounds of 10 s and 2 + 1 MB, losses 0.7 -> 0.5 -> 0.42 -> 0.41 -> 0.4."""
    values: dict[str, Any] = {
        "times_s": [0.0, 10.0, 20.0, 30.0, 40.0],
        "up_bytes": [0.0, 2e6, 4e6, 6e6, 8e6],
        "down_bytes": [0.0, 1e6, 2e6, 3e6, 4e6],
        "losses": [0.7, 0.5, 0.42, 0.41, 0.4],
        "latencies_s": [10.0] * 4,
    }
    return Curve(setting, seed, loss, **values | changes)


def cheap(seed: int, factor: float = 10.0, loss: float = 0.4, **changes: Any) -> Curve:
    """As that, a tenth of bytes and time, and another final loss."""
    one = curve()
    values = {
        "times_s": [t / factor for t in one.times_s],
        "up_bytes": [b / factor for b in one.up_bytes],
        "down_bytes": [b / factor for b in one.down_bytes],
        "losses": [*one.losses[:-1], loss],
        "latencies_s": [t / factor for t in one.latencies_s],
    }
    return curve("tenth", seed, **values | changes)


def test_a_mean_over_seeds_has_a_t_interval_and_one_seed_has_none() -> None:
    found = estimate([1.0, 2.0, 3.0])
    assert found is not None and found.mean == 2.0 and found.n == 3
    assert found.half == pytest.approx(4.303 * 1 / 3**0.5)
    alone = estimate([5.0])
    assert alone is not None and alone.half is None and alone.high == float("inf") and estimate([]) is None


def test_a_curve_counts_from_the_start_by_device() -> None:
    rounds = pd.DataFrame(
        {
            "round": [1, 2],
            "start_s": [0.0, 4.5],
            "latency_s": [4.0, 3.0],
            "cohort": [2, 2],
            "wire_up_bytes": [200.0, 220.0],
            "wire_down_bytes": [100.0, 110.0],
        }
    )
    labels = {"setting": "int8", "seed": 3, "packet_loss": 0.0}
    found = curve_of(rounds, {0: 0.7, 1: 0.6, 2: 0.5}, labels)
    assert found.times_s == [0, 4, 7.5] and found.latency_s == 3.5 and found.rounds == 2
    assert found.up_bytes == [0, 100, 210] and found.down_bytes == [0, 50, 105]
    assert found.losses == [0.7, 0.6, 0.5] and found.bytes_at(2) == 315
    table = to_table([found])
    assert table["round"].tolist() == [0, 1, 2] and table["loss"].tolist() == found.losses


def test_the_protocols_are_as_defined() -> None:
    own = [curve(seed=seed) for seed in SEEDS] + [cheap(seed) for seed in SEEDS]
    base, tenth = rows_of(["fp32", "tenth"], SEEDS, own, {})
    # The target is 0.7 - 0.75 * 0.3 = 0.475: after round 2. The budget is 0.4 * 12 MB: one round of 3 MB.
    assert (base.target_rounds.mean, base.target_time_s.mean, base.target_bytes.mean) == (2, 20, 6e6)  # type: ignore[union-attr]
    assert (base.budget_rounds.mean, base.budget_loss.mean) == (1, 0.5)  # type: ignore[union-attr]
    assert (tenth.target_rounds.mean, tenth.target_time_s.mean) == (2, 2)  # type: ignore[union-attr]
    assert (tenth.budget_rounds.mean, tenth.budget_loss.mean) == (4, pytest.approx(0.4))  # type: ignore[union-attr]
    assert (tenth.up_ratio.mean, tenth.speedup.mean) == (pytest.approx(10), pytest.approx(10))  # type: ignore[union-attr]
    assert base.loss_ratio.mean == 1 and base.reached == 3 and base.lossy is None  # type: ignore[union-attr]


def test_a_setting_that_never_gets_there_costs_nothing_known() -> None:
    stuck = [cheap(seed, losses=[0.7, 0.6, 0.6, 0.6, 0.6]) for seed in SEEDS]
    (_, row) = rows_of(["fp32", "tenth"], SEEDS, [curve(seed=s) for s in SEEDS] + stuck, {})
    assert row.reached == 0 and row.target_time_s is None and row.target_bytes is None


def test_seeds_without_a_valid_trial_are_named_and_in_no_mean() -> None:
    own = [curve(seed=1), curve(seed=3), cheap(1), cheap(2)]
    base, tenth = rows_of(["fp32", "tenth"], SEEDS, own, {})
    assert (base.seeds, base.missing, tenth.missing) == ([1, 3], [2], [3])
    assert tenth.latency_s is not None and tenth.latency_s.n == 2
    assert tenth.speedup is not None and tenth.speedup.n == 1  # seed 2 has no baseline
    (claim,) = claims([base, tenth])
    assert not claim.holds


@pytest.mark.parametrize(
    ("factor", "loss", "holds"), [(10, 0.4, True), (10, 0.41, False), (7, 0.4, False), (10, 0.3, True)]
)
def test_the_claim_needs_the_loss_the_bytes_and_the_time(factor: float, loss: float, holds: bool) -> None:
    own = [curve(seed=seed) for seed in SEEDS] + [cheap(seed, factor, loss) for seed in SEEDS]
    (claim,) = claims(rows_of(["fp32", "tenth"], SEEDS, own, {}))
    assert (claim.holds, claim.surely) == (holds, holds)


def test_a_claim_that_chance_may_explain_is_not_sure() -> None:
    losses = (0.390, 0.402, 0.409)
    own = [curve(seed=s) for s in SEEDS] + [
        cheap(s, loss=loss) for s, loss in zip(SEEDS, losses, strict=True)
    ]
    (claim,) = claims(rows_of(["fp32", "tenth"], SEEDS, own, {}))
    assert claim.holds and not claim.surely


def test_lossy_links_are_compared_with_clean_ones_of_the_same_seed() -> None:
    slow = curve(loss=PACKET_LOSS, latencies_s=[15.0] * 4)
    (row,) = rows_of(["fp32"], SEEDS, [curve(seed=s) for s in SEEDS] + [slow], {"fp32": True})
    assert row.lossy is not None and row.lossy.identical and row.lossy.slowdown == 1.5
    assert row.latency_s is not None and row.latency_s.mean == 10  # the lossy trial is in no other number
    assert (row.lossy.rounds, row.lossy.loss, row.lossy.clean_loss) == (4, 0.4, 0.4)
    short = curve(loss=PACKET_LOSS, latencies_s=[30.0] * 2, losses=[0.7, 0.5, 0.43])
    clean = curve(latencies_s=[10.0, 20.0, 1.0, 1.0])
    (row,) = rows_of(["fp32"], SEEDS, [clean, short], {"fp32": False})
    assert row.lossy is not None and not row.lossy.identical and row.lossy.slowdown == 2
    assert (row.lossy.rounds, row.lossy.loss, row.lossy.clean_loss) == (2, 0.43, 0.42)


def test_adapters_of_a_shorter_run_are_compared_with_those_of_a_longer(tmp_path: Path) -> None:
    for run, contents in {"long": "abc", "short": "ab", "other": "ax"}.items():
        (tmp_path / run / "adapters").mkdir(parents=True)
        for number, content in enumerate(contents):
            (tmp_path / run / "adapters" / f"round-{number:04d}.safetensors").write_text(content)
    assert same_adapters(tmp_path / "short", tmp_path / "long")
    assert not same_adapters(tmp_path / "other", tmp_path / "long")
    assert not same_adapters(tmp_path / "long", tmp_path / "short")


def test_presets_are_trials_that_can_be_configured() -> None:
    """Codecs and keys of every setting exist; no two are one experiment."""
    for preset in (QUICK, FULL):
        wanted = compression.trials_of(preset)
        assert len({trial.id for trial in wanted}) == len(wanted)
        assert len(wanted) == len(preset.settings) * len(preset.seeds) + len(preset.lossy)
        assert len(preset.seeds) >= 3 and preset.settings[0].name == "fp32"
        assert set(preset.lossy) <= {setting.name for setting in preset.settings}
    lossy = [trial for trial in wanted if trial.labels["packet_loss"]]
    assert all(trial.experiment.links()[0].up.loss == PACKET_LOSS for trial in lossy)


def test_what_the_bench_sets_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"uplink.codec=int8: this bench sets seed, uplink.codec"):
        compression.trials_of(QUICK, ["uplink.codec=int8"])
    broken = Preset("x", (Setting("odd", ("uplink.codec=odd",)),), (1,), (), (), 8, 8)
    with pytest.raises(ConfigError, match=r"setting 'odd': .*uplink"):
        compression.trials_of(broken)


PRESET = Preset(
    name="tiny",
    settings=(Setting("fp32", ()), Setting("int8", ("uplink.codec=int8",))),
    seeds=SEEDS,
    overrides=("rounds=2",),
    lossy=("fp32",),
    per_style=2,
    queries=6,
    splits=("known",),
)


class FakeScorer:
    """Losses that fall, and answers of which the first is right; counts what it is asked."""

    asked: list[str]

    def __init__(self, base: str, per_style: int) -> None:
        type(self).asked = []

    def losses(self, run_dir: Path) -> dict[int, float]:
        self.asked.append(f"losses {run_dir.name}")
        return {0: 0.7, 1: 0.5, 2: 0.4}

    def retrieval(
        self, run_dir: Path, split: str, count: int, part: int, parts: int, number: int | None = None
    ) -> Answers:
        self.asked.append(f"answers {run_dir.name}")
        gallery = compression.load_gallery("known")
        names = gallery.names[part * count : (part + 1) * count]
        features = gallery.features["twemoji"][: len(names)]
        ranks = np.array([1] + [9] * (len(names) - 1))
        return Answers(names, np.full(len(names), "twemoji"), ranks, ranks == 1, features)

    def ceiling(self, split: str, count: int) -> Answers:
        return self.retrieval(Path("ceiling"), split, count, 0, 1)


class FakeGallery:
    """Ten things with the features of unit axes."""

    names = np.array([f"thing-{i}" for i in range(10)])
    features = dict.fromkeys(("noto", "twemoji", "openmoji", "fluent"), np.eye(10, 128, dtype=np.float32))

    def __len__(self) -> int:
        return 40


def fake_trials(invalid: tuple[str, int] | None = None) -> Any:
    """run_trials without running: two rounds each, int8 at an eighth of the time and bytes of fp32."""

    def run(trials: list[Trial], output: Path, **_: Any) -> Sweep:
        results, rounds = [], []
        for trial in trials:
            run_dir = Path("trials") / trial.id / "run"
            (output / run_dir / "adapters").mkdir(parents=True, exist_ok=True)
            content = f"{trial.labels['setting']} {trial.labels['seed']}"
            (output / run_dir / "adapters" / "round-0001.safetensors").write_text(content)
            valid = (trial.labels["setting"], trial.labels["seed"]) != invalid
            head = {"trial": trial.id, **trial.labels, "valid": valid}
            results.append(head | {"reason": "late", "tries": 1 if valid else 3, "run_dir": str(run_dir)})
            share = 8 if trial.labels["setting"] == "int8" else 1
            for number in (1, 2):
                wire = {"wire_up_bytes": 2e6 / share, "wire_down_bytes": 1e6 / share, "cohort": 2}
                start = (number - 1) * 8 / share
                rounds.append(head | {"round": number, "start_s": start, "latency_s": 8 / share} | wire)
        return Sweep(output, pd.DataFrame(results), pd.DataFrame(rounds), ran=len(trials))

    return run


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(compression, "run_trials", fake_trials())
    monkeypatch.setattr(compression, "Scorer", FakeScorer)
    monkeypatch.setattr(compression, "load_gallery", lambda split: FakeGallery())
    return monkeypatch


def test_the_bench_scores_each_trial_once_and_writes_everything(
    faked: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = compression.run(PRESET, tmp_path)
    assert bench.holds and [claim.setting for claim in bench.claims] == ["int8"]
    # Six clean trials; the lossy one has the same adapters and so the same losses.
    assert sum(line.startswith("losses") for line in FakeScorer.asked) == 6
    (row,) = [row for row in bench.rows if row.setting == "fp32"]
    assert row.lossy is not None and row.lossy.identical
    found = bench.retrieval.set_index("source")
    assert found.index.tolist() == ["fp32", "int8", "ceiling", "chance"]
    assert found.loc["fp32", "queries"] == 6 and found.loc["fp32", "recall_at_1"] == 0.5
    names = {path.name for path in compression_tables.write(bench, tmp_path)}
    assert names == {"compression.json", "compression.md", "compression.csv", "pareto.png", "pareto.pdf"}
    document = json.loads((tmp_path / "compression.json").read_text())
    assert document["claim"]["holds"] and len(document["curves"]) == 7
    text = (tmp_path / "compression.md").read_text()
    assert "**Holds**" in text and "- int8: loss +0.00%, 8.0 times fewer bytes up, 8.0 times faster" in text
    again = compression.run(PRESET, tmp_path)
    assert all(line == "answers ceiling" for line in FakeScorer.asked) and again.rows == bench.rows


def test_an_invalid_trial_is_shown_and_used_nowhere(faked: pytest.MonkeyPatch, tmp_path: Path) -> None:
    faked.setattr(compression, "run_trials", fake_trials(invalid=("int8", 2)))
    bench = compression.run(PRESET, tmp_path)
    assert not bench.holds and bench.bad == ["int8, seed 2: late"] and bench.repeated
    (row,) = [row for row in bench.rows if row.setting == "int8"]
    assert row.seeds == [1, 3] and row.missing == [2]
    text = compression_tables.markdown(compression_tables.to_json(bench))
    assert bench.repeated == ["int8, seed 2: 3 tries"]
    assert "int8 (INVALID: 1 of 3 seeds)" in text and "- int8, seed 2: late" in text
    assert "DOES NOT HOLD" in text


def test_scores_of_other_questions_are_not_taken_for_these(tmp_path: Path) -> None:
    (tmp_path / "losses.json").write_text(json.dumps({"key": [99], "losses": {"0": 1.0}}))
    scorer: Any = FakeScorer("bundled", 2)
    assert kept_scores.losses_of(lambda: scorer, tmp_path, PRESET.per_style)[0] == 0.7
    assert kept_scores.losses_of(lambda: pytest.fail("asked again"), tmp_path, PRESET.per_style)[0] == 0.7


@pytest.mark.parametrize("holds", [True, False])
def test_the_command_prints_its_document_and_exits_by_the_verdict(
    holds: bool, faked: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    faked.setattr(compression, "QUICK", PRESET)
    faked.setattr(compression_rows, "SPEED_TARGET", 5.0 if holds else 9.0)
    command = ["bench", "compression", "--quick", "--json", "--output", str(tmp_path)]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == (0 if holds else 1), done.output
    document = json.loads(done.stdout)
    assert document["valid"] is holds and {row["setting"] for row in document["rows"]} == {"fp32", "int8"}
