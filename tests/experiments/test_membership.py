"""Membership inference: who is asked about, and that an adapter that knows nobody tells nobody."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client.diffusion.base import DEFAULT_BASE, load_base
from client.diffusion.data import Examples
from client.diffusion.lora import TARGET_MODULES, initial_adapter
from client.diffusion.probe import Probe
from experiments import membership
from experiments.membership import matched, membership_auc
from experiments.preflight import EvaluationError
from proto.adapter import save_adapter

TARGETS = list(TARGET_MODULES)


def make_run(folder: Path, change: float) -> Path:
    """Two devices of one step each, whose adapter has moved by `change` at random."""
    config = {
        "base": str(DEFAULT_BASE),
        "seed": 1,
        "adapter": {"rank": 2, "target_modules": TARGETS},
        "training": {"trainer": "diffusion", "data": "emoji", "partition": "style", "batch_size": 100},
        "network": {"devices": [{"count": 2}]},
    }
    (folder / "adapters").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"config": config, "valid": True}))
    pd.DataFrame({"client": ["dev0", "dev1"], "steps": [14, 14]}).to_csv(folder / "clients.csv", index=False)
    layout, vector = initial_adapter(load_base(), 2, TARGETS, seed=1)
    moved = vector + np.float32(change) * np.random.default_rng(0).standard_normal(layout.size, np.float32)
    for number, values in enumerate((vector, moved)):
        save_adapter(folder / "adapters" / f"round-{number:04d}.safetensors", layout, values)
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "_MOST", 16)
    monkeypatch.setattr(membership, "_DRAWS", 1)


def test_an_adapter_that_has_not_moved_tells_what_the_first_one_told(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", 0.0)
    result = membership_auc(run)
    assert result.attacks["loss"] == result.attacks["initial"]
    calibrated = result.attacks["calibrated"]
    assert (calibrated.auc, calibrated.auc_low, calibrated.auc_high) == (0.5, 0.5, 0.5)
    assert result.round == 1 and result.members == result.non_members >= 16
    assert result.passes == pytest.approx(1.0, abs=0.1)
    table = pd.read_csv(run / "membership.csv")
    assert table["attack"].tolist() == ["loss", "initial", "calibrated"]
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["membership"][0]["auc"] == result.auc
    assert "AUC 0.500 (0.500 to 0.500)" in result.summary()


def test_an_adapter_that_has_moved_gives_other_losses(tmp_path: Path) -> None:
    attacks = membership_auc(make_run(tmp_path / "run", 0.3)).attacks
    assert attacks["loss"] != attacks["initial"] and attacks["calibrated"].auc != 0.5


def test_whose_losses_fall_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter that knows its members by heart."""
    before = np.random.default_rng(0).uniform(1, 2, 1000)

    def losses(probe: Probe, model: object) -> np.ndarray:
        count = len(probe._latents)
        fell = np.repeat([0.5, 0.0], count // 2) if next(asked) else 0.0
        return before[:count] - fell

    asked = iter([0, 1])
    monkeypatch.setattr(Probe, "losses", losses)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})  # One after the other.
    result = membership_auc(make_run(tmp_path / "run", 0.0))
    assert result.attacks["calibrated"].auc == 1.0 and result.attacks["calibrated"].tpr_at_1 == 1.0
    assert 0.7 < result.auc < 1 and abs(result.attacks["initial"].auc - 0.5) < 0.3


def test_devices_that_trained_alone_are_asked_for_their_own(tmp_path: Path) -> None:
    """dev1 kept what it began with, dev0's adapter has moved: both count, and the whole is neither alone."""
    run = make_run(tmp_path / "run", 0.3)
    moved = run / "adapters" / "round-0001.safetensors"
    for device in ("dev0", "dev1"):
        (run / "adapters" / device).mkdir()
    moved.rename(run / "adapters" / "dev0" / moved.name)
    shutil.copy(run / "adapters" / "round-0000.safetensors", run / "adapters" / "dev1" / moved.name)
    said: list[str] = []
    result = membership_auc(run, said.append)
    assert [text.split()[0] for text in said] == ["dev0", "dev1"]
    assert result.members >= 16 and result.attacks["calibrated"].auc != 0.5


def examples(names: list[str], style: str, group: str) -> Examples:
    count = len(names)
    texts = [np.array(names), np.array(names), np.full(count, style), np.full(count, group)]
    return Examples(np.zeros((count, 2, 2, 3), np.uint8), *texts)


def test_both_sides_have_as_many_of_each_kind() -> None:
    members = Examples.join(
        [
            examples([f"a{n}" for n in range(30)], "flat", "food"),
            examples([f"b{n}-dark-skin-tone" for n in range(3)], "flat", "people"),
            examples([f"c{n}" for n in range(5)], "flat", "people"),
            examples(["d0", "d1"], "round", "food"),
        ]
    )
    others = Examples.join(
        [
            examples([f"e{n}" for n in range(4)], "flat", "food"),
            examples([f"f{n}-dark-skin-tone" for n in range(9)], "flat", "people"),
            examples(["g0"], "base's own", "food"),
        ]
    )
    mine, theirs = matched(members, others, 100, families=True)
    assert [name[0] for name in mine.names] == list("aaaabbb")
    assert [name[0] for name in theirs.names] == list("eeeefff")
    assert mine.names[0] == "a0" and mine.names[3] == "a29"


def test_nobody_to_compare_with_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membership, "load_held_out", lambda data, size: examples(["x"], "other", "g"))
    with pytest.raises(EvaluationError, match="0 held-out examples are like what was trained on"):
        membership_auc(make_run(tmp_path / "run", 0.0))
