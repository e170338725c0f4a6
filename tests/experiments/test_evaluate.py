"""Evaluating a run: losses that can be told apart, pictures, and one line for what is no run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from client.diffusion import retrieval as drawings
from client.diffusion.base import DEFAULT_BASE, load_base
from client.diffusion.data import load_held_out
from client.diffusion.dual_encoder import load_judge
from client.diffusion.full import FullUNet
from client.diffusion.lora import TARGET_MODULES, initial_adapter
from experiments import evaluate
from experiments.evaluate import EvaluationError, Questions, Scorer, evaluate_run
from proto.adapter import load_adapter, save_adapter
from proto.lora import LoraLayout
from tests.client.test_diffusion_data import write_folder

TARGETS = list(TARGET_MODULES)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_PER_STYLE", 8)
    monkeypatch.setattr(evaluate, "_SAMPLING_STEPS", 2)
    monkeypatch.setattr(evaluate, "_SUBJECTS", evaluate._SUBJECTS[:1])


def make_run(folder: Path, data: str = "emoji", trainer: str = "diffusion", rounds: int = 2) -> Path:
    """A run whose global adapter does nothing before training and gets worse, round by round."""
    config = {
        "base": str(DEFAULT_BASE),
        "seed": 1,
        "adapter": {"rank": 2, "target_modules": TARGETS},
        "training": {"trainer": trainer, "data": data},
    }
    (folder / "adapters").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"config": config, "valid": True}))
    layout, vector = initial_adapter(load_base(), 2, TARGETS, seed=1)
    noise = np.random.default_rng(0).standard_normal(layout.size).astype(np.float32)
    for number in range(rounds + 1):
        path = folder / "adapters" / f"round-{number:04d}.safetensors"
        save_adapter(path, layout, vector + noise * np.float32(0.2 * number))
    return folder


def test_an_emoji_run_is_evaluated_in_every_style_before_and_after(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    said: list[str] = []
    evaluation = evaluate_run(run, progress=said.append)
    table = pd.read_csv(run / "evaluation.csv")
    assert list(table.columns) == ["round", "style", "loss", "examples"]
    assert set(table["round"]) == {0, 1, 2} and len(said) == 4
    for _, rows in table.groupby("round"):
        styles = rows[rows["style"] != "all"]
        assert styles["style"].tolist() == ["noto", "twemoji", "openmoji", "fluent"]
        assert (styles["examples"] == 8).all()
        overall = rows[rows["style"] == "all"].iloc[0]
        assert overall["examples"] == 32
        assert overall["loss"] == pytest.approx(styles["loss"].mean(), rel=1e-5)
    losses = table[table["style"] == "all"]["loss"].tolist()
    assert losses[0] < losses[1] < losses[2]
    assert {path.name for path in evaluation.figures} == {
        f"{name}.{kind}" for name in ("loss", "samples") for kind in ("png", "pdf")
    }
    for path in evaluation.figures:
        assert path.stat().st_size > 5000
    assert json.loads(json.dumps(evaluation.to_json()))["losses"][0]["round"] == 0
    assert "openmoji" in evaluation.summary()


def test_the_same_run_gets_the_same_answer(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    write_folder(folder)
    runs = [make_run(tmp_path / name, data=str(folder), rounds=1) for name in ("one", "other")]
    tables = [evaluate_run(run, progress=lambda text: None).losses for run in runs]
    pd.testing.assert_frame_equal(tables[0], tables[1], rtol=1e-5)
    pictures = [np.asarray(Image.open(run / "figures" / "samples.png")).astype(int) for run in runs]
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.5


def test_an_imagefolder_run_is_evaluated_on_its_own_held_out_images(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    run = make_run(tmp_path / "run", data=str(write_folder(folder)), rounds=1)
    losses = evaluate_run(run, progress=lambda text: None).losses
    assert losses["style"].tolist() == ["image", "all"] * 2
    assert losses["examples"].tolist() == [2] * 4


def test_devices_of_their_own_adapters_count_alike(tmp_path: Path) -> None:
    """dev1 missed round 2: it has what it had. The scheme's loss is the mean of its devices'."""
    folder = tmp_path / "images"
    folder.mkdir()
    write_folder(folder)
    shared = make_run(tmp_path / "shared", data=str(folder))
    run = make_run(tmp_path / "run", data=str(folder))
    for name, numbers in (("dev0", (1, 2)), ("dev1", (1,))):
        (run / "adapters" / name).mkdir()
        for number in numbers:
            file = f"round-{number:04d}.safetensors"
            shutil.copy(shared / "adapters" / file, run / "adapters" / name / file)
    for number in (1, 2):
        (run / "adapters" / f"round-{number:04d}.safetensors").unlink()
    losses = evaluate_run(run, progress=lambda text: None).losses
    by_round = evaluate_run(shared, progress=lambda text: None).losses
    assert losses.columns.tolist() == by_round.columns.tolist()
    expected = by_round["loss"].tolist()
    assert losses["loss"].tolist()[:4] == pytest.approx(expected[:4], rel=1e-6)
    assert losses["loss"].tolist()[4:] == pytest.approx(
        [(expected[2] + expected[4]) / 2, (expected[3] + expected[5]) / 2], rel=1e-6
    )
    devices = pd.read_csv(run / "evaluation_devices.csv")
    assert len(devices) == 2 * len(losses) and set(devices["device"]) == {"dev0", "dev1"}
    scorer = Scorer.__new__(Scorer)  # The questions of emoji take longer.
    scorer._base, scorer._questions = load_base(), Questions(load_base(), load_held_out(str(folder), 64))
    assert scorer.losses(run)[2] == pytest.approx((expected[3] + expected[5]) / 2, rel=1e-6)


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"config": {}}'])
def test_what_is_no_run_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(EvaluationError, match=f"{tmp_path} is not a run") as caught:
        evaluate_run(tmp_path, progress=print)
    assert "\n" not in str(caught.value)


def test_a_synthetic_run_has_nothing_to_evaluate(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", trainer="synthetic")
    with pytest.raises(EvaluationError, match="run of the synthetic trainer: it trained nothing"):
        evaluate_run(run, progress=print)


def test_a_run_without_a_finished_round_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=0)
    with pytest.raises(EvaluationError, match="no round was finished"):
        evaluate_run(run, progress=print)


def test_a_round_may_have_a_higher_rank_than_its_devices(tmp_path: Path) -> None:
    """As after FLoRA, which stacks: two halves of an adapter are the adapter."""
    folder = tmp_path / "images"
    folder.mkdir()
    run = make_run(tmp_path / "run", data=str(write_folder(folder)), rounds=2)
    layout, vector = load_adapter(run / "adapters" / "round-0001.safetensors")
    lora = LoraLayout(layout)
    stacked = LoraLayout(lora.with_rank(4))
    both = lora.resize(vector, 4)
    for module, wider in zip(lora.modules, stacked.modules, strict=True):
        (a, b), (all_a, all_b) = lora.factors(vector, module), stacked.factors(both, wider)
        all_a[2:], all_b[:, :2], all_b[:, 2:] = a, b / 2, b / 2
    save_adapter(run / "adapters" / "round-0002.safetensors", stacked.layout, both)
    losses = evaluate_run(run, progress=lambda text: None).losses.set_index("round")["loss"]
    assert losses[2].tolist() == pytest.approx(losses[1].tolist(), rel=1e-5)
    assert losses[1].tolist() != pytest.approx(losses[0].tolist(), rel=1e-3)


def test_a_run_of_the_whole_unet_is_evaluated(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    run = make_run(tmp_path / "run", data=str(write_folder(folder)), rounds=1)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["config"]["adapter"]["kind"] = "full"
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(EvaluationError, match="adapter of round 0 does not fit the run's base: tensor "):
        evaluate_run(run, progress=print)
    whole = FullUNet(load_base())
    for number in (0, 1):
        path = run / "adapters" / f"round-{number:04d}.safetensors"
        save_adapter(path, whole.layout, whole.read() * np.float32(1 + number))
    losses = evaluate_run(run, progress=lambda text: None).losses["loss"].tolist()
    assert losses[2] > 2 * losses[0]


def test_adapters_of_another_model_are_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=1)
    layout, vector = initial_adapter(load_base(), 2, ["to_q"], seed=1)
    save_adapter(run / "adapters" / "round-0001.safetensors", layout, vector)
    with pytest.raises(EvaluationError, match="adapter of round 1 does not fit the run's base: tensor unet"):
        evaluate_run(run, progress=lambda text: None)


def test_a_damaged_adapter_is_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rounds=1)
    (run / "adapters" / "round-0001.safetensors").write_bytes(b"damaged")
    with pytest.raises(EvaluationError, match=r"round-0001.safetensors is not a safetensors adapter"):
        evaluate_run(run, progress=print)


def test_drawings_are_looked_for_among_real_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "_QUERIES", 2)
    monkeypatch.setattr(evaluate, "_QUERY_STEPS", 2)
    monkeypatch.setattr(evaluate, "_QUERY_BATCH", 1)  # in threads, with captions of other lengths
    every = drawings.gallery_names
    monkeypatch.setattr(drawings, "gallery_names", lambda split: every(split)[::10])
    monkeypatch.setattr(evaluate, "load_gallery", lambda split: drawings.Gallery(load_judge(), split))
    run = make_run(tmp_path / "run", rounds=1)
    evaluation = evaluate_run(run, progress=lambda text: None, with_retrieval=True)
    table = pd.read_csv(run / "retrieval.csv")
    assert table["source"].unique().tolist() == ["round 0", "round 1", "ceiling", "chance"]
    assert set(table["names"]) == {"unseen", "known"}
    overall = table[(table["style"] == "all") & (table["source"] != "chance")]
    assert (overall["queries"] == 6).all()
    ceiling = overall[overall["source"] == "ceiling"]
    assert (ceiling["recall_at_5"] > 0.5).all() and (ceiling["style_accuracy"] > 0.5).all()
    document = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert len(document["retrieval"]) == len(table) and "ceiling" in evaluation.summary()


def test_retrieval_is_of_emoji_alone(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    run = make_run(tmp_path / "run", data=str(write_folder(folder)), rounds=1)
    with pytest.raises(EvaluationError, match=r"retrieval is of training\.data=emoji"):
        evaluate_run(run, progress=print, with_retrieval=True)
